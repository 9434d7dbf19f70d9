"""What a checkpoint is, without loading it: layers, parameters, files, memory in each precision."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path

from blixt.llm.config import ModelConfig
from blixt.llm.model import GPT
from blixt.llm.specs import LayerSpec
from blixt.llm.weights.estimate import BITS, Memory, Use, cache_numbers, estimate
from blixt.llm.weights.find import weight_files
from blixt.llm.weights.read import QUANTIZED, open_checkpoint, plan_for

CONTEXTS = (2048, 8192, 32768, 131072)
PRECISIONS = ("float32", "bfloat16", "int8", "int4")


@dataclass(frozen=True)
class Part:
    """Some layers of one kind.

    Attributes:
        name: "embedding", "layers 0-29", "output layer" ...
        kind: What it consists of.
        parameters: Of one such layer.
        count: How many there are.
    """

    name: str
    kind: str
    parameters: int
    count: int


@dataclass(frozen=True)
class Footprint:
    """Memory in one precision with one context.

    Attributes:
        precision: Of the weights.
        context: Tokens in the one sequence.
        memory: What it takes.
    """

    precision: str
    context: int
    memory: Memory


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint in numbers.

    Attributes:
        path: Of the checkpoint.
        model_type: Its family.
        parameters: All, shared ones once.
        active_parameters: Those that one token passes through.
        context: Longest sequence.
        vocab: Tokens.
        tied: The output layer is the embedding.
        stored: Numbers in the files by how they are stored, such as {"bfloat16": 134515008}.
        file_bytes: Size of the weights' files.
        cache_bytes_per_token: Keys and values of one token in 16 bits, at the model's context.
        parts: Layers by kind.
        footprints: Memory for each precision and context.
    """

    path: str
    model_type: str
    parameters: int
    active_parameters: int
    context: int
    vocab: int
    tied: bool
    stored: dict[str, int]
    file_bytes: int
    cache_bytes_per_token: int
    parts: list[Part]
    footprints: list[Footprint]


def info(path: str | Path) -> ModelInfo:
    """Describe a checkpoint; its tensors are not read.

    Args:
        path: A directory or a `.gguf` file.

    Raises:
        ConfigError: The configuration is missing or cannot be expressed.
        WeightsError: A file is missing or damaged, or tensors do not fit the configuration.
    """
    source, config = open_checkpoint(path)
    model = GPT.empty(config)
    if (Path(path) / QUANTIZED).exists():
        from blixt.llm.quant.files import load_quantized

        load_quantized(path)  # says the same of its own format
    else:
        plan_for(model, source)  # says which tensors are missing or surplus
    stored: Counter[str] = Counter()
    for tensor in source.infos.values():
        stored[tensor.stored] += prod(tensor.shape)
    total = sum(parameter.numel() for parameter in model.parameters())
    return ModelInfo(
        path=str(path),
        model_type=config.model_type,
        parameters=total,
        active_parameters=total - _idle(model, config),
        context=config.context,
        vocab=config.vocab,
        tied=config.tie,
        stored=dict(stored.most_common()),
        file_bytes=sum(file.stat().st_size for file in weight_files(path)),
        cache_bytes_per_token=2 * cache_numbers(config, config.context) // config.context,
        parts=list(_parts(model, config)),
        footprints=list(footprints(config)),
    )


def footprints(config: ModelConfig) -> Iterator[Footprint]:
    """Memory of one sequence in each usual precision, with each usual context up to the model's."""
    contexts = sorted({context for context in CONTEXTS if context < config.context} | {config.context})
    for precision in (name for name in BITS if name in PRECISIONS):
        for context in contexts:
            yield Footprint(precision, context, estimate(config, Use(precision, context)))


def _parts(model: GPT, config: ModelConfig) -> Iterator[Part]:
    outside = {name: p.numel() for name, p in model.named_parameters() if not name.startswith("blocks.")}
    embedding = sum(count for name, count in outside.items() if "embed" in name)
    yield Part(
        "embedding",
        f"{config.vocab} x {config.d}" + (", also the output" if config.tie else ""),
        embedding,
        1,
    )
    sizes = [sum(p.numel() for p in block.parameters()) for block in model.blocks]
    keyed = [(_kind(spec, config), size) for spec, size in zip(config.specs, sizes, strict=True)]
    for (kind, size), group in groupby(enumerate(keyed), key=lambda item: item[1]):
        indices = [index for index, _ in group]
        span = str(indices[0]) if len(indices) == 1 else f"{indices[0]}-{indices[-1]}"
        yield Part(f"layer {span}", kind, size, len(indices))
    if rest := sum(count for name, count in outside.items() if name.startswith("norm")):
        yield Part("last norm", config.norm, rest, 1)
    if head := sum(count for name, count in outside.items() if name.startswith("head")):
        yield Part("output layer", f"{config.d} x {config.vocab}", head, 1)


def _kind(spec: LayerSpec, config: ModelConfig) -> str:
    window = f" {spec.window}" if spec.window else ""
    heads = f"{config.heads}/{config.kv_heads} heads of {config.head_dim}"
    rope = "" if spec.rope is not None else ", no rope"
    if spec.mlp == "moe" and config.moe is not None:
        mlp = f"{config.moe.experts} experts of {config.moe.d_ff}, {config.moe.top_k} at a time"
    else:
        mlp = f"{spec.mlp} MLP of {spec.d_ff}"
    return f"{spec.attn}{window} attention, {heads}{rope}; {mlp}"


def _idle(model: GPT, config: ModelConfig) -> int:
    """Parameters of the experts that a token does not visit."""
    if config.moe is None:
        return 0
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    return experts * (config.moe.experts - config.moe.top_k) // config.moe.experts
