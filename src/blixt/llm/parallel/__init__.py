"""One decoder on many ranks, decided from outside of the model file.

A plan follows from the names of a model's parameters (`Layout`, `plan_of`); `make_strategy` turns a recipe's
numbers into FSDP2, HSDP, tensor and context parallel on Fabric; `prepare_blocks` adds activation
checkpointing and compilation by block.
"""

from blixt.llm.parallel.context import ContextParallel, GatheredContext
from blixt.llm.parallel.layout import Layout
from blixt.llm.parallel.memory import checkpoint_blocks, compile_blocks
from blixt.llm.parallel.settings import ParallelConfig, make_strategy, prepare_blocks
from blixt.llm.parallel.tensor import apply_tensor_parallel, plan_of

__all__ = [
    "ContextParallel",
    "GatheredContext",
    "Layout",
    "ParallelConfig",
    "apply_tensor_parallel",
    "checkpoint_blocks",
    "compile_blocks",
    "make_strategy",
    "plan_of",
    "prepare_blocks",
]
