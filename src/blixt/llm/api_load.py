"""How `LLM.load` puts a model, its tokenizer, adapters and an engine's settings together."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blixt.llm.engine.engine_config import EngineConfig
from blixt.llm.errors import ConfigError
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint
from blixt.llm.weights.estimate import Use

if TYPE_CHECKING:
    from blixt.llm.api import LLM
    from blixt.llm.engine.speculative import Proposer
    from blixt.llm.model import GPT

_USUAL_CONTEXT = 2048  # who names none will want to say at least so much


def load(
    kind: "type[LLM]",
    path: str | Path,
    device: str,
    *,
    dtype: torch.dtype | str | None,
    quantize: str | None,
    adapters: Mapping[str, str | Path] | None,
    engine: Mapping[str, Any],
    verify: bool = False,
) -> "LLM":
    """See `LLM.load`."""
    settings = engine_config(engine, device)
    use = intended(settings)
    model = load_checkpoint(path, dtype=dtype, device=device, quantize=quantize, use=use, verify=verify)
    model.requires_grad_(False)
    tokenizer = Tokenizer.load(path)
    if not adapters:
        return kind(model, tokenizer, settings)
    from blixt.llm.engine.adapters import AdapterSet

    known = AdapterSet(model)
    for name, directory in adapters.items():
        known.add(name, directory)
    return kind(model, tokenizer, settings, adapters=known)


def intended(settings: EngineConfig) -> Use:
    """What an engine of these settings needs at least: one request of full length, and the cache asked for.

    More requests share what memory is left, as the engine works out when it is built.
    """
    return Use(
        context=settings.context or _USUAL_CONTEXT,
        kv_bytes=settings.kv_bytes or 0,
        step=max(settings.max_tokens_per_step, settings.max_batch),
    )


def engine_config(given: Mapping[str, Any], device: str = "cpu") -> EngineConfig:
    """An `EngineConfig` from keywords; `speculate` may be the directory of a draft model, None the default.

    Raises:
        ConfigError: There is no such setting, or its value is impossible.
    """
    values = {name: value for name, value in given.items() if value is not None}
    known = [field.name for field in fields(EngineConfig)]
    if unknown := sorted(values.keys() - set(known)):
        raise ConfigError(f"the engine has no setting {unknown[0]!r}; it has {', '.join(known)}")
    guess = values.get("speculate")
    if isinstance(guess, str | Path) and Path(guess).exists():
        draft = load_checkpoint(guess, device=device).requires_grad_(False)
        values["speculate"] = _draft_proposer(draft, values.get("speculate_tokens"))
    return EngineConfig(**values)


def _draft_proposer(model: "GPT", tokens: int | None) -> "Proposer":
    from blixt.llm.engine.speculative_draft import DraftProposer

    return DraftProposer(model, k=tokens or EngineConfig.speculate_tokens)
