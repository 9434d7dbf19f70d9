"""Look at everything a long run will need before it starts: files, numbers, tokenizer, memory, disk."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import LLMError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights.checksums import verify
from blixt.llm.weights.estimate import BITS, Use, check_memory, weight_bytes
from blixt.llm.weights.fill import Plan, main_dtype
from blixt.llm.weights.free import free_bytes
from blixt.llm.weights.read import QUANTIZED, open_checkpoint, plan_for
from blixt.llm.weights.source import Source

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The result of one look.

    Attributes:
        check: What was looked at.
        verdict: "ok", "warning" (it will run) or "failed" (it will not, or not rightly).
        text: What was found, in a sentence.
    """

    check: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Wish:
    """What the run will be like.

    Attributes:
        context: Tokens in a sequence; 0 means the model's.
        batch: Sequences at once.
        precision: As in `estimate.BITS`; "" means as stored.
        device: Where it will run.
        training: Parameters, gradients and two AdamW moments in float32 besides.
        output: Directory for checkpoints, whose disk must have room; None leaves that out.
        numbers: Read every number, to find NaNs, zeroed tensors and flipped bits.
    """

    context: int = 0
    batch: int = 1
    precision: str = ""
    device: str = "cpu"
    training: bool = False
    output: Path | None = None
    numbers: bool = True


def validate(path: str | Path, wish: Wish | None = None) -> Iterator[Finding]:
    """Look at a checkpoint, one finding after another; nothing is raised for what is wrong with it.

    Args:
        path: A directory or a `.gguf` file.
        wish: What it shall be used for; None means a short conversation on the CPU.
    """
    wish = wish or Wish()
    if (Path(path) / QUANTIZED).exists():
        yield from _quantised(Path(path), wish)
        return
    try:
        source, config = open_checkpoint(path)
        yield Finding(
            "config", "ok", f"{config.model_type}, {config.layers} layers, context {config.context}"
        )
        plan = plan_for(GPT.empty(config), source)
    except LLMError as error:
        yield Finding("config and files", "failed", str(error))
        return
    yield Finding("tensors", "ok", f"all {len(plan.names)} are there and fit the configuration")
    yield from _dtypes(plan)
    if wish.numbers:
        yield from _numbers(source)
        yield from _checksums(Path(path))
    yield from _tokenizer(Path(path), config)
    yield from _memory(plan, config, wish)
    if wish.output is not None:
        yield _disk(config, wish, wish.output)


def _quantised(path: Path, wish: Wish) -> Iterator[Finding]:
    """Of a model that `save_quantized` wrote."""
    from blixt.llm.quant.files import load_quantized, schemes_of

    try:
        config = load_quantized(path).config
        schemes = schemes_of(path)
    except LLMError as error:
        yield Finding("config and files", "failed", str(error))
        return
    yield Finding("config", "ok", f"{config.model_type}, {config.layers} layers, context {config.context}")
    yield Finding("tensors", "ok", f"all are there and fit the configuration, in {', '.join(schemes)}")
    if wish.numbers:
        yield from _checksums(path)
    yield from _tokenizer(path, config)
    yield from _fits(schemes[0], config, wish)
    if wish.output is not None:
        yield _disk(config, wish, wish.output)


def _dtypes(plan: Plan) -> Iterator[Finding]:
    stored = {info.stored for info in plan.infos() if info.dtype.is_floating_point}
    more = "" if len(stored) < 2 else "; parameters are brought to one dtype when loaded"
    yield Finding("dtypes", "ok", f"stored as {', '.join(sorted(stored))}{more}")


def _numbers(source: Source) -> Iterator[Finding]:
    bad: list[str] = []
    zero: list[str] = []
    for name, info in source.infos.items():
        if not info.dtype.is_floating_point or info.dtype.itemsize < 2:
            continue
        least, largest = _bounds(source.get(name))
        if not (torch.isfinite(least) and torch.isfinite(largest)):
            bad.append(name)
        elif len(info.shape) > 1 and least == 0 == largest:
            zero.append(name)
    if bad:
        yield Finding("numbers", "failed", f"{_first(bad)} holds NaN or infinite numbers")
    if zero:
        yield Finding("numbers", "warning", f"{_first(zero)} is all zeros: was it written to its end?")
    if not bad and not zero:
        yield Finding("numbers", "ok", f"all numbers of {len(source.infos)} tensors are finite")


def _bounds(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest number; NaN where there is one."""
    if not tensor.numel():
        return torch.ones(()), torch.ones(())
    least, largest = torch.aminmax(tensor)
    return least.float(), largest.float()


def _checksums(path: Path) -> Iterator[Finding]:
    """Of files that this library wrote: others carry none."""
    try:
        sound = verify(path)
    except WeightsError as error:
        yield Finding("checksum", "failed", str(error))
        return
    if sound:
        yield Finding("checksum", "ok", f"the numbers are as they were written ({sound} checksums)")


def _tokenizer(path: Path, config: ModelConfig) -> Iterator[Finding]:
    from blixt.llm.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.load(path)
    except LLMError as error:
        yield Finding("tokenizer", "failed", str(error))
        return
    size = len(tokenizer)
    if size > config.vocab:
        yield Finding("tokenizer", "failed", f"it has {size} tokens, the model's embedding {config.vocab}")
    else:
        spare = f", {config.vocab - size} rows of the embedding are spare" if size < config.vocab else ""
        yield Finding("tokenizer", "ok", f"{size} tokens{spare}")
    yield from _ends(tokenizer.eos, config)
    yield _template(lambda: tokenizer.template)


def _ends(eos: tuple[int, ...], config: ModelConfig) -> Iterator[Finding]:
    if not eos and not config.eos:
        yield Finding("end of text", "warning", "no token ends a text: generation stops at its length only")
    elif outside := [token for token in (*eos, *config.eos) if token >= config.vocab]:
        yield Finding(
            "end of text", "failed", f"token {outside[0]} ends a text, the vocabulary has {config.vocab}"
        )
    elif config.eos and eos and not set(eos) & set(config.eos):
        yield Finding(
            "end of text", "warning", f"the tokenizer ends a text with {eos}, config.json with {config.eos}"
        )
    else:
        yield Finding("end of text", "ok", f"tokens {', '.join(map(str, eos or config.eos))}")


def _template(load: Callable[[], object]) -> Finding:
    """Try the chat template on two messages."""
    try:
        template = load()
        if template is None:
            return Finding("chat template", "warning", "there is none: messages will be joined by lines")
        messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
        shown = str(template.render(messages))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    except LLMError as error:
        return Finding("chat template", "failed", str(error))
    if "Hello" not in shown or "Hi" not in shown:
        return Finding("chat template", "failed", "it drops what a message says")
    return Finding("chat template", "ok", "it renders a conversation")


def _memory(plan: Plan, config: ModelConfig, wish: Wish) -> Iterator[Finding]:
    stored = str(main_dtype(plan.infos(), torch.device(wish.device))).removeprefix("torch.")
    yield from _fits(wish.precision or stored, config, wish)


def _fits(precision: str, config: ModelConfig, wish: Wish) -> Iterator[Finding]:
    device = torch.device(wish.device)
    try:
        if precision in BITS:
            memory = check_memory(config, Use(precision, wish.context, wish.batch), device)
            yield Finding("memory", "ok", f"{memory.total / 1e9:.2f} GB in {precision} fit on {device}")
    except LLMError as error:
        yield Finding("memory", "failed", str(error))
    if wish.training:
        yield _training_memory(config, precision, device)


def _training_memory(config: ModelConfig, precision: str, device: torch.device) -> Finding:
    numbers = weight_bytes(config, "float32")
    needed, free = weight_bytes(config, precision) * 2 + numbers * 2, free_bytes(device)
    text = (
        f"weights, gradients and AdamW's moments take {needed / 1e9:.2f} GB, {device} has {free / 1e9:.2f} GB"
    )
    if needed > free:
        return Finding("training memory", "failed", f"{text}; LoRA needs gradients of the adapters only")
    return Finding("training memory", "ok", f"{text} (activations come on top)")


def _disk(config: ModelConfig, wish: Wish, output: Path) -> Finding:
    """Room for two checkpoints with optimizer state: the old one goes when the new one is whole."""
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    needed = 2 * weight_bytes(config, "float32") * (3 if wish.training else 1)
    free = shutil.disk_usage(existing).free
    text = f"two checkpoints take up to {needed / 1e9:.2f} GB, the disk of {output} has {free / 1e9:.2f} GB"
    return Finding("disk", "failed" if needed > free else "ok", text)


def _first(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
