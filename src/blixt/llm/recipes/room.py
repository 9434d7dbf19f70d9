"""Whether a run fits the memory of its devices: worked out from its settings before a weight is read."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from blixt.fabric import Fabric
from blixt.llm.config import ModelConfig
from blixt.llm.errors import TooLittleMemoryError
from blixt.llm.lora import LoRAConfig
from blixt.llm.losses.head import CPU_ELEMENTS, DEVICE_ELEMENTS
from blixt.llm.model import GPT
from blixt.llm.parallel import ParallelConfig
from blixt.llm.parallel.memory import Checkpointing
from blixt.llm.recipes.adapt import Adapt, Scheme, adapt_model
from blixt.llm.weights import estimate
from blixt.llm.weights.estimate import weight_bytes


class Settings(Protocol):
    """What all recipes' settings have."""

    @property
    def precision(self) -> str:
        """Fabric's."""
        ...

    @property
    def parallel(self) -> ParallelConfig:
        """Devices and how they share the work."""
        ...


class Adapted(Protocol):
    """What the settings of recipes have that begin with a checkpoint."""

    @property
    def adapt(self) -> Adapt:
        """What is trained."""
        ...

    @property
    def lora(self) -> LoRAConfig:
        """Shape of an adapter."""
        ...

    @property
    def quantize(self) -> Scheme | None:
        """Number format of frozen weights of qlora."""
        ...


@dataclass(frozen=True)
class Run:
    """What a rank of a run holds.

    Attributes:
        model: That is trained.
        rows: Rows that a rank computes at once.
        length: Places in a row.
        adapt: What of it is trained.
        lora: Shape of an adapter.
        quantize: Number format of frozen weights of qlora.
        half: Weights are kept in 16 bits, as "-true" precisions do.
        mixed: Products are computed in 16 bits.
        frozen: Further whole models that are only looked at, and the precision each is kept in.
        checkpointing: Of activations.
        shards: Ranks that divide weights, gradients and optimizer states.
        parts: Ranks that divide each layer or sequence, and so the activations.
    """

    model: ModelConfig
    rows: int
    length: int
    adapt: Adapt = "full"
    lora: LoRAConfig | None = None
    quantize: Scheme | None = None
    half: bool = False
    mixed: bool = False
    frozen: tuple[tuple[ModelConfig, str], ...] = ()
    checkpointing: Checkpointing = "none"
    shards: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Needs:
    """Bytes that a rank of a run takes at its fullest.

    Attributes:
        weights: Of all models.
        training: Gradients and two moments of what is trained.
        activations: Kept from forward to backward, and the largest chunk of logits.
    """

    weights: int
    training: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.training + self.activations


def needs(run: Run, device: str = "cpu") -> Needs:
    """The memory that a run takes on one rank."""
    number = 2 if run.half else 4
    plain = "bfloat16" if run.half or (run.adapt != "full" and device != "cpu") else "float32"
    precision = (run.quantize or "nf4") if run.adapt == "qlora" else plain
    frozen = sum(weight_bytes(config, kind) for config, kind in run.frozen)
    trained = _trained(run)
    shards = 1 if run.adapt == "qlora" else run.shards  # buffers of few bits are whole on every rank
    return Needs(
        weights=weight_bytes(run.model, precision) // shards + frozen // run.shards,
        training=(3 * number * trained + (0 if run.adapt == "full" else number * trained)) // run.shards,
        activations=_activations(run, device),
    )


def check_room(
    fabric: Fabric,
    settings: Settings,
    model: ModelConfig,
    rows: int,
    length: int,
    *frozen: tuple[ModelConfig, str],
    adapted: Adapted | None = None,
) -> None:
    """Refuse a run that cannot fit, with what would.

    Args:
        fabric: Launched.
        settings: The recipe's.
        model: That is trained.
        rows: Rows that a rank computes at once.
        length: Places in a row.
        *frozen: Further models that are only looked at.
        adapted: What is trained of a checkpoint; None trains all weights.

    Raises:
        TooLittleMemoryError: It does not fit what is free.
    """
    parallel, ranks = settings.parallel, fabric.world_size
    run = Run(
        model,
        rows,
        length,
        frozen=frozen,
        half=settings.precision.endswith("-true") and settings.precision.startswith(("16", "bf16")),
        mixed=settings.precision.endswith("-mixed"),
        checkpointing=parallel.checkpointing,
        shards=max(1, ranks // parallel.replicas) if parallel.sharded else 1,
        parts=parallel.tp * parallel.cp,
    )
    if adapted is not None:
        run = replace(run, adapt=adapted.adapt, lora=adapted.lora, quantize=adapted.quantize)
    device = fabric.device
    here = max(1, ranks // parallel.nodes) if device.type == "cpu" else 1  # ranks that share its memory
    device_bytes = estimate.free_bytes(device) // here
    needed = needs(run, device.type)
    if needed.total <= device_bytes:
        return
    found = [text for text, other in _remedies(run, ranks) if needs(other, device.type).total <= device_bytes]
    would = f"what would: {' or '.join(found[:3])}" if found else "no setting makes it fit: use more devices"
    raise TooLittleMemoryError(
        f"this run needs {_gb(needed.total)} on each rank ({_gb(needed.weights)} of weights, "
        f"{_gb(needed.training)} of gradients and optimizer states, {_gb(needed.activations)} of activations "
        f"for {rows} x {length} tokens) and {device} has {_gb(device_bytes)} free; {would}"
    )


def _trained(run: Run) -> int:
    model = GPT.empty(run.model)
    if run.adapt != "full":
        adapt_model(model, run.adapt, run.lora or LoRAConfig())
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _activations(run: Run, device: str) -> int:
    """What autograd keeps of each layer, counted on the layers as they are; see the test that measures it."""
    config, tokens = run.model, run.rows * run.length // run.parts
    numbers = [_of_layer(config, index) for index in range(config.layers)]
    kept = sum(numbers)
    if run.checkpointing == "full":
        kept = config.d * config.layers + max(numbers)
    elif run.checkpointing == "selective":
        kept = kept // 2 + max(numbers)
    chunk = min(tokens, (CPU_ELEMENTS if device == "cpu" else DEVICE_ELEMENTS) // config.vocab + 1)
    return tokens * kept * (2 if run.half or run.mixed else 4) + 2 * chunk * config.vocab * 4


def _of_layer(config: ModelConfig, index: int) -> int:
    spec, moe = config.specs[index], config.moe
    heads, groups = config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention = 4 * config.d + 4 * heads + 4 * groups
    if spec.mlp == "moe" and moe is not None:
        return attention + 4 * (moe.top_k * moe.d_ff + moe.shared_d_ff) + 3 * moe.top_k * config.d
    return attention + (4 if spec.mlp == "gated" else 2) * spec.d_ff


def _remedies(run: Run, ranks: int) -> Iterator[tuple[str, Run]]:
    """Settings that take less, from the least change on."""
    rows = run.rows // 2
    while rows:
        yield f"micro_batch_size={rows}", replace(run, rows=rows)
        rows //= 2
    lean = replace(run, checkpointing="full")
    if run.checkpointing != "full":
        yield "parallel.checkpointing=full", lean
        yield "micro_batch_size=1 with parallel.checkpointing=full", replace(lean, rows=1)
    if run.shards == 1 and ranks > 1:
        yield "parallel.strategy=fsdp", replace(lean, rows=1, shards=ranks)
    smaller: tuple[Adapt, ...] = ("lora", "qlora")
    for adapt in smaller:
        if run.adapt in ("full", "lora", "dora") and adapt != run.adapt:
            yield f"adapt={adapt}", replace(run, adapt=adapt)
            yield f"adapt={adapt} with micro_batch_size=1", replace(lean, adapt=adapt, rows=1)


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.2f} MB"
