"""From numbers in a recipe to a Fabric strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from blixt.fabric import FSDPStrategy, Parallel, ParallelStrategy, Strategy
from blixt.llm.errors import RecipeError
from blixt.llm.parallel.memory import Checkpointing, checkpoint_blocks, compile_blocks
from blixt.llm.parallel.tensor import apply_tensor_parallel

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class ParallelConfig:
    """Devices, and how they share the work.

    Attributes:
        devices: Ranks to start on this machine; auto is every GPU, or one rank on the CPU. Leave it when
            torchrun, a cluster or blixt's cloud starts the ranks.
        nodes: Machines.
        strategy: ddp keeps whole copies; fsdp divides parameters, gradients and optimizer state; auto is ddp,
            or what tp, cp and replicas need.
        replicas: Groups of ranks that hold whole copies of each other's shards (HSDP).
        tp: Ranks that share each layer's work (tensor parallel).
        cp: Ranks that share each sequence (context parallel).
        checkpointing: Activations computed again in backward: none, full or selective.
        compile: Compile every block.
        offload: Keep shards in CPU memory between uses (fsdp).
    """

    devices: int | str = "auto"
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    replicas: int = 1
    tp: int = 1
    cp: int = 1
    checkpointing: Checkpointing = "none"
    compile: bool = False
    offload: bool = False

    def __post_init__(self) -> None:
        for name in ("nodes", "replicas", "tp", "cp"):
            if getattr(self, name) < 1:
                raise RecipeError(f"parallel.{name} is {getattr(self, name)}: it is at least 1")
        if self.strategy == "ddp" and self.sharded:
            raise RecipeError(
                "parallel.strategy=ddp keeps whole copies: use fsdp with tp, cp, replicas or offload"
            )

    @property
    def sharded(self) -> bool:
        """Whether parameters are divided."""
        return self.strategy == "fsdp" or max(self.tp, self.cp, self.replicas) > 1 or self.offload


def make_strategy(config: ParallelConfig) -> Strategy | str:
    """The strategy for decoders: FSDP2 by block, with tensor and context parallel where asked for."""
    if not config.sharded:
        return "auto" if config.strategy == "auto" else "ddp"
    sizes = Parallel(dp_replicate=config.replicas, tp=config.tp, cp=config.cp)
    if config.tp == 1 and config.cp == 1:
        return FSDPStrategy(parallel=sizes, cpu_offload=config.offload)
    divide = _divide if config.tp > 1 else None
    return ParallelStrategy(sizes, parallelize_fn=divide, cpu_offload=config.offload)


def prepare_blocks(model: nn.Module, config: ParallelConfig) -> nn.Module:
    """Checkpointing, then compilation, of each block; before the strategy divides them."""
    checkpoint_blocks(model, config.checkpointing)
    if config.compile:
        compile_blocks(model)
    return model


def _divide(module: nn.Module, mesh: "DeviceMesh") -> Any:
    return apply_tensor_parallel(module, mesh["tp"])
