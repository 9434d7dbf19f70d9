"""What ranks do together; each function runs on every rank of a launch, and one rank is the truth."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from blixt.fabric import Fabric
from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.data import PackedBlock
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.model import GPT
from blixt.llm.parallel import ParallelConfig, make_strategy, prepare_blocks
from blixt.llm.quant import quantize
from blixt.llm.recipes.optim import OptimConfig, make_optimizers
from blixt.llm.recipes.resume import Checkpoints, ResumeConfig, TrainState
from blixt.llm.recipes.training import LossModel, context_parallel, data_ranks, evaluate, train_step
from blixt.llm.specs import MLASpec, MoESpec, RopeSpec

ROWS, LENGTH, STEPS = 4, 32, 3
BASE: dict[str, Any] = {"vocab": 96, "d": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context": 64}
MODELS: dict[str, ModelConfig] = {
    "llama": ModelConfig(**BASE, tie=False),
    "tied": ModelConfig(**BASE),
    "normed": ModelConfig(**BASE, qk_norm="head", qkv_bias=True, out_bias=True, mlp_bias=True, tie=False),
    "sinks": ModelConfig(**BASE, sinks=True, softcap_logits=30.0),
    "whole norms": ModelConfig(**BASE, qk_norm="full", norm_place="post"),
    "experts": ModelConfig(
        **BASE, moe=MoESpec(experts=4, top_k=2, d_ff=24, shared_d_ff=16, expert_bias=True), tie=False
    ),
    "latent": ModelConfig(
        **{**BASE, "kv_heads": 4},
        mla=MLASpec(kv_rank=16, rope_dim=8, nope_dim=8, v_dim=8, q_rank=12),
        layer_specs=(LayerSpec(attn="mla", rope=RopeSpec()),) * 2,
    ),
    "windows": ModelConfig(
        **BASE,
        layer_specs=(
            LayerSpec(attn="sliding", window=7, rope=RopeSpec()),
            LayerSpec(attn="chunked", window=8, rope=RopeSpec()),
        ),
    ),
}


def make_block(seed: int) -> PackedBlock:
    """Rows of two documents and some padding, with prompts that are not learned."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 96, (ROWS, LENGTH + 1), generator=random)
    cuts = torch.randint(5, LENGTH - 5, (ROWS, 1), generator=random)
    places = torch.arange(LENGTH).expand(ROWS, LENGTH)
    documents = (places >= cuts).long().masked_fill(places >= LENGTH - 3, -1)
    positions = torch.where(documents == 1, places - cuts, places)
    mask = (torch.rand(ROWS, LENGTH, generator=random) < 0.7) & (documents >= 0)
    targets = tokens[:, 1:].masked_fill(documents < 0, -100)
    return PackedBlock(tokens[:, :-1], targets, mask, positions, documents)


def rows_of(block: PackedBlock, rank: int, ranks: int) -> PackedBlock:
    """A rank's rows; unequal numbers of loss positions among the ranks are what the weighting is about."""
    own = slice(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
    return PackedBlock(*(getattr(block, name)[own] for name in vars(block)))


def train(kind: str, parallel: ParallelConfig, **options: Any) -> dict[str, Any]:
    """Losses of some steps, the loss of an evaluation after them, and the weights they led to."""
    fabric, model, optimizers = set_up(kind, parallel, **options)
    # torch's Muon iterates in bfloat16, where a gradient's last bit moves a weight by as much as a defect
    # would; in float64 it does not.
    exact = patch.object(torch.Tensor, "bfloat16", torch.Tensor.double)
    with exact if options.get("name") == "muon" else nullcontext():
        losses = [one_step(fabric, model, optimizers, seed, parallel) for seed in range(STEPS)]
    rank, ranks = data_ranks(fabric)
    held_out = evaluate(fabric, model, [rows_of(make_block(9), rank, ranks)], parallel.tp)
    state = fabric.strategy.module_state(model.module)
    return {"losses": losses, "held_out": held_out, "weights": {n: t.clone() for n, t in state.items()}}


def set_up(
    kind: str,
    parallel: ParallelConfig,
    *,
    lora: bool = False,
    targets: str = "all",
    dora: bool = False,
    base: str = "",
    name: str = "adamw",
) -> Any:
    """A model with an adapter if wanted, on a base in bfloat16 or quantised if wanted."""
    config = MODELS[kind]
    fabric = Fabric(accelerator="cpu", strategy=make_strategy(parallel))
    fabric.launch()
    torch.manual_seed(0)
    decoder = GPT(config)
    if base == "bfloat16":
        decoder.to(torch.bfloat16)
    elif base:
        quantize(decoder, base)
    if lora or dora:
        add_lora(decoder, LoRAConfig(r=4, dora=dora, targets=targets))
        with torch.no_grad():
            for parameter in decoder.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    wrapped = LossModel(decoder, cp=context_parallel(fabric, parallel, packed=True))
    model = fabric.setup_module(prepare_blocks(wrapped, parallel))
    made = make_optimizers(model, OptimConfig(name=name, learning_rate=1e-2))  # type: ignore[arg-type]
    return fabric, model, [fabric.setup_optimizers(optimizer) for optimizer in made]


def one_step(fabric: Fabric, model: Any, optimizers: Any, seed: int, parallel: ParallelConfig) -> float:
    rank, ranks = data_ranks(fabric)
    mine = rows_of(make_block(seed), rank, ranks)
    halves = [rows_of(make_block(seed), 2 * rank + half, 2 * ranks) for half in (0, 1)]
    blocks = halves if ROWS // ranks > 1 else [mine]
    return float(train_step(fabric, model, optimizers, blocks, tp=parallel.tp, clip=1.0).loss)


def checks_of(cases: dict[str, tuple[str, ParallelConfig, dict[str, Any]]]) -> list[Callable[..., Any]]:
    """A check for each case, named after it, as `run_checks` wants them."""
    return [Case(name, *case) for name, case in cases.items()]


class Case:
    """A check that can be sent to another process."""

    def __init__(self, name: str, kind: str, parallel: ParallelConfig, options: dict[str, Any]) -> None:
        self.__name__ = name
        self.kind, self.parallel, self.options = kind, parallel, options

    def __call__(self, rank: int, folder: Path) -> Any:
        found = train(self.kind, self.parallel, **self.options)
        return found if rank == 0 else {**found, "weights": {}}


TWO: dict[str, tuple[str, ParallelConfig, dict[str, Any]]] = {
    "ddp": ("llama", ParallelConfig(strategy="ddp"), {}),
    "fsdp": ("llama", ParallelConfig(strategy="fsdp"), {}),
    "fsdp_tied_recomputed": ("tied", ParallelConfig(strategy="fsdp", checkpointing="full"), {}),
    "fsdp_lora": ("llama", ParallelConfig(strategy="fsdp"), {"lora": True}),
    "fsdp_lora_on_bfloat16": ("llama", ParallelConfig(strategy="fsdp"), {"lora": True, "base": "bfloat16"}),
    "ddp_qlora": ("llama", ParallelConfig(strategy="ddp"), {"lora": True, "base": "int8"}),
    "fsdp_qlora": ("llama", ParallelConfig(strategy="fsdp"), {"lora": True, "base": "int8"}),
    "fsdp_experts_lora": ("experts", ParallelConfig(strategy="fsdp"), {"lora": True, "targets": "experts"}),
    "fsdp_muon": ("llama", ParallelConfig(strategy="fsdp"), {"name": "muon"}),
    "tp": ("llama", ParallelConfig(tp=2), {}),
    "tp_tied": ("tied", ParallelConfig(tp=2, checkpointing="selective"), {}),
    "tp_normed": ("normed", ParallelConfig(tp=2), {}),
    "tp_sinks": ("sinks", ParallelConfig(tp=2), {}),
    "tp_whole_norms": ("whole norms", ParallelConfig(tp=2), {}),
    "tp_experts": ("experts", ParallelConfig(tp=2), {}),
    "tp_latent": ("latent", ParallelConfig(tp=2), {}),
    "tp_lora": ("normed", ParallelConfig(tp=2), {"lora": True}),
    "ddp_nf4": ("llama", ParallelConfig(strategy="ddp"), {"lora": True, "base": "nf4"}),
    "fsdp_nf4": ("llama", ParallelConfig(strategy="fsdp"), {"lora": True, "base": "nf4"}),
    "tp_dora": ("normed", ParallelConfig(tp=2), {"dora": True}),
    "tp_qlora": ("normed", ParallelConfig(tp=2), {"lora": True, "base": "fp8"}),
    "tp_qdora": ("latent", ParallelConfig(tp=2), {"dora": True, "base": "fp8"}),
    "cp": ("llama", ParallelConfig(cp=2), {}),
    "cp_windows": ("windows", ParallelConfig(cp=2), {}),
    "cp_sinks": ("sinks", ParallelConfig(cp=2), {}),
    "cp_latent": ("latent", ParallelConfig(cp=2), {}),
}
FOUR: dict[str, tuple[str, ParallelConfig, dict[str, Any]]] = {
    "fsdp_four": ("llama", ParallelConfig(strategy="fsdp"), {}),
    "hsdp": ("tied", ParallelConfig(replicas=2), {}),
    "fsdp_tp": ("normed", ParallelConfig(tp=2), {}),
    "fsdp_tp_experts": ("experts", ParallelConfig(tp=2), {}),
    "cp_tp": ("windows", ParallelConfig(cp=2, tp=2), {}),
    "fsdp_cp": ("llama", ParallelConfig(cp=2), {}),
}


def check_resume(rank: int, folder: Path) -> dict[str, Any]:
    """Two steps, a checkpoint, a third step; then the third step again from the checkpoint."""
    parallel = ParallelConfig(strategy="fsdp")
    fabric, model, optimizers = set_up("llama", parallel)
    for seed in (0, 1):
        one_step(fabric, model, optimizers, seed, parallel)
    checkpoints = Checkpoints(fabric, folder, ResumeConfig(), {"seed": 0})
    checkpoints.restore(TrainState(model, optimizers))
    checkpoints.save(2, TrainState(model, optimizers), {"best": 1.5})
    straight = one_step(fabric, model, optimizers, 2, parallel)
    fabric, model, optimizers = set_up("llama", parallel)
    checkpoints = Checkpoints(fabric, folder, ResumeConfig(), {"seed": 0})
    progress = checkpoints.restore(TrainState(model, optimizers))
    return {
        "straight": straight,
        "again": one_step(fabric, model, optimizers, 2, parallel),
        "progress": progress,
    }
