"""What two ranks do with one checkpoint; run by test_ranks in processes of their own."""

from pathlib import Path
from typing import Any

import torch
from tests.llm.families.cases import CASES
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from blixt.llm.config import ModelConfig, MoESpec
from blixt.llm.families import read_config
from blixt.llm.model import GPT
from blixt.llm.weights import load_checkpoint, save_checkpoint

SIZES: dict[str, Any] = {"vocab": 96, "d": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context": 64}
MODELS = {
    "dense": ModelConfig(**SIZES, tie=False),
    "experts": ModelConfig(
        **SIZES, model_type="mixtral", moe=MoESpec(experts=4, top_k=2, d_ff=96), tie=False
    ),
}
KINDS = {case.kind: case for case in reversed(CASES.values()) if 5 in case.versions}
"""A case of every model type: how its matrices lie on disk is its own, divided or not."""
TOKENS = torch.arange(24).reshape(2, 12)


def write_models(folder: Path) -> None:
    """The checkpoints that ranks read."""
    torch.manual_seed(0)
    for name, config in MODELS.items():
        save_checkpoint(GPT(config), folder / name)
    for kind, case in KINDS.items():
        model = GPT(read_config({**case.config(), "model_type": kind})).requires_grad_(False)
        for parameter in model.parameters():  # so that every part of every tensor matters
            parameter.mul_(4).add_(torch.randn_like(parameter), alpha=0.02)
        save_checkpoint(model, folder / kind)


def check_tensor_parallel(rank: int, folder: Path) -> dict[str, Any]:
    """Logits of a model of which each rank read its part, and how large the parts are."""
    return {name: _divided(name, folder) for name in MODELS}


def _divided(name: str, folder: Path) -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2,))
    path = folder.parent / name
    model = load_checkpoint(path, mesh=mesh)
    whole = load_checkpoint(path)
    with torch.no_grad():
        same = (model(TOKENS) - whole(TOKENS)).abs().max() < 1e-5
    up = next(p for key, p in model.named_parameters() if key.endswith(("mlp.up.weight", "experts.up")))
    assert isinstance(up, DTensor)
    save_checkpoint(model, folder / name)
    return {"same": bool(same), "local": tuple(up.to_local().shape), "whole": tuple(up.shape)}


@torch.no_grad()
def check_families(rank: int, folder: Path) -> dict[str, float]:
    """How far the logits of a model of each type are from those of the whole, and that it is divided."""
    mesh, found = init_device_mesh("cpu", (2,)), dict[str, float]()
    for kind in KINDS:
        model = load_checkpoint(folder.parent / kind, mesh=mesh)
        assert any(isinstance(parameter, DTensor) for parameter in model.parameters()), kind
        whole = load_checkpoint(folder.parent / kind)(TOKENS)
        found[kind] = ((model(TOKENS) - whole).abs().max() / whole.abs().max()).item()
    return found


def check_fsdp(rank: int, folder: Path) -> bool:
    """Logits of a model that FSDP2 divided before it had memory."""
    path = folder.parent / "dense"
    model = load_checkpoint(path, shard=fully_shard)
    with torch.no_grad():
        same = (model(TOKENS) - load_checkpoint(path)(TOKENS)).abs().max() < 1e-5
    save_checkpoint(model, folder / "dense")
    return bool(same)
