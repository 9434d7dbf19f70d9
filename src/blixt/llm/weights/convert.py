"""Turn a checkpoint into another: directory, GGUF, litgpt in; directory or GGUF out; one tensor at a time."""

import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights.fill import Plan, main_dtype
from blixt.llm.weights.gguf.archs import written_as
from blixt.llm.weights.gguf.describe import describe, rope_tensors
from blixt.llm.weights.gguf.encode import Format, format_named
from blixt.llm.weights.gguf.names import gguf_rules
from blixt.llm.weights.gguf.read import metadata_of
from blixt.llm.weights.gguf.verify import check_describes
from blixt.llm.weights.gguf.write import Announced, format_for, write_gguf
from blixt.llm.weights.read import DType, as_dtype, open_checkpoint, plan_for, read_hf_config
from blixt.llm.weights.rules import Entry, entries
from blixt.llm.weights.save import MAX_SHARD_BYTES, save_config, write_state

Progress = Callable[[int, int], None]
SIDECARS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""What belongs to a model besides `config.json` and weights, copied as it is."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    dtype: DType = None,
    format: str = "f16",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> Path:
    """Write a checkpoint in another form, with its tokenizer; no more than a few tensors are in memory.

    Args:
        source: A directory, a `.gguf` file, or a litgpt checkpoint (`lit_model.pth`, `model_config.yaml`).
        target: A new directory, or a file whose name ends in `.gguf`.
        dtype: Of a directory's weights; None keeps what most of the source is stored in.
        format: Of a GGUF file's matrices: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q5_1, q4_k_m,
            q4_k_s, q4_0, q4_1, or mxfp4 for the experts of a mixture.
        max_shard_bytes: A larger model becomes several files with an index.
        progress: Called with the tensors written and their number.

    Returns:
        The target.

    Raises:
        LLMError: The source cannot be read, the target exists, or cannot say what the model is.
    """
    source, target = Path(source), Path(target)
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise WeightsError(f"{target} exists already: name another target, or remove it")
    plan, config = _open(source)
    if target.suffix == ".gguf":
        _to_gguf(plan, config, source, target, format_named(format), progress)
    else:
        _to_directory(plan, config, source, target, as_dtype(dtype), max_shard_bytes, progress)
    return target


def _open(source: Path) -> tuple[Plan, ModelConfig]:
    if source.is_dir() and (source / "lit_model.pth").exists():
        from blixt.llm.weights.litgpt import open_litgpt

        return open_litgpt(source)
    opened, config = open_checkpoint(source)
    return plan_for(GPT.empty(config), opened), config


def _to_directory(
    plan: Plan,
    config: ModelConfig,
    source: Path,
    target: Path,
    dtype: torch.dtype | None,
    max_shard_bytes: int,
    progress: Progress | None,
) -> None:
    wanted = dtype or main_dtype(plan.infos(), torch.device("cpu"))
    target.mkdir(parents=True, exist_ok=True)
    get = _counting(_reader(plan), len(plan.made), progress)
    write_state(target, config, plan.made, get, max_shard_bytes=max_shard_bytes, dtype=wanted)
    if metadata_of(plan.source) is not None:
        from blixt.llm.tokenizer import Tokenizer

        Tokenizer.load(source).save(target)
    else:
        copy_sidecars(source if source.is_dir() else source.parent, target)
    save_config(config, target, wanted)


def copy_sidecars(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template and generation settings, where they exist."""
    for name in SIDECARS:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _to_gguf(
    plan: Plan, config: ModelConfig, source: Path, target: Path, format: Format, progress: Progress | None
) -> None:
    _, arch = written_as(config.model_type)
    if format.rest and config.moe is None:
        raise WeightsError(
            f"{format.name} is a format for experts, which this model has none of: take q4_k_m"
        )
    rules = list(entries(gguf_rules(config, arch, plan.made), config))
    ropes = rope_tensors(config)
    metadata = describe(config) | _general(source, format) | _tokenizer(source, config)
    layers = config.layers
    announced = [_announce(name, tuple(tensor.shape), format, layers) for name, tensor in ropes.items()]
    for entry in rules:
        made = entry.save([plan.made[name].meta() for name in entry.ours])
        announced += [
            _announce(name, tuple(t.shape), format, layers)
            for name, t in zip(entry.theirs, made, strict=True)
        ]
    check_describes(config, metadata, announced, ropes)
    target.parent.mkdir(parents=True, exist_ok=True)
    get = _counting(_reader(plan), len(plan.made), progress)
    write_gguf(target, metadata, announced, lambda: _gguf_tensors(rules, ropes, get))


def _gguf_tensors(
    rules: list[Entry], ropes: dict[str, Tensor], get: Callable[[str], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    yield from ropes.items()
    for entry in rules:
        parts = [get(name).float() for name in entry.ours]
        yield from zip(entry.theirs, entry.save(parts), strict=True)


def _announce(name: str, shape: tuple[int, ...], format: Format, layers: int) -> Announced:
    return Announced(name, shape, format_for(name, shape, format, layers))


def _reader(plan: Plan) -> Callable[[str], Tensor]:
    """One of the model's tensors at a time; an entry that makes several is read once for all."""

    @lru_cache(maxsize=2)
    def read(entry: Entry) -> list[Tensor]:
        return plan.read(entry)

    def get(name: str) -> Tensor:
        entry = plan.entry_of[name]
        return read(entry)[entry.ours.index(name)]

    return get


def _counting(get: Callable[[str], Tensor], total: int, progress: Progress | None) -> Callable[[str], Tensor]:
    if progress is None:
        return get
    done = 0

    def counted(name: str) -> Tensor:
        nonlocal done
        done += 1
        progress(done, total)
        return get(name)

    return counted


def _general(source: Path, format: Format) -> dict[str, Any]:
    general: dict[str, Any] = {
        "general.type": "model",
        "general.name": source.stem if source.is_file() else source.resolve().name,
        "general.file_type": format.file_type,
    }
    return general if format.dtype is not None else general | {"general.quantization_version": 2}


def _tokenizer(source: Path, config: ModelConfig) -> dict[str, Any]:
    """The tokenizer as metadata, with a token for every row of the embedding."""
    from blixt.llm.tokenizer import Tokenizer
    from blixt.llm.tokenizer_gguf import metadata_of as describe_tokenizer

    found = describe_tokenizer(Tokenizer.load(source))
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    missing = config.vocab - len(tokens)
    if missing < 0:
        raise ConfigError(
            f"{source}: the tokenizer has {len(tokens)} tokens, the model's vocab_size is {config.vocab}"
        )
    found["tokenizer.ggml.tokens"] = [*tokens, *(f"[PAD{len(tokens) + i}]" for i in range(missing))]
    found["tokenizer.ggml.token_type"] = [*kinds, *[_UNUSED] * missing]
    padding = read_hf_config(source).get("pad_token_id")
    if isinstance(padding, int) and 0 <= padding < config.vocab:
        found["tokenizer.ggml.padding_token_id"] = padding
    if "tokenizer.ggml.scores" in found:
        found["tokenizer.ggml.scores"] = [*found["tokenizer.ggml.scores"], *[-1e4] * missing]
    return found


_UNUSED = 5
