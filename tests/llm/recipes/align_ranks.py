"""What two ranks do for `test_align`: the same runs as one rank, shared or sharded."""

import argparse
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.llm.recipes.small import small_model, source_lines, write_rows

from blixt.llm.recipes.config import read
from blixt.llm.recipes.distill import DistillConfig
from blixt.llm.recipes.distill import run as distill
from blixt.llm.recipes.dpo import DPOConfig
from blixt.llm.recipes.dpo import run as dpo
from blixt.llm.recipes.grpo import GRPOConfig
from blixt.llm.recipes.grpo import run as grpo

SHARED: dict[str, Any] = {
    "steps": 2,
    "val_fraction": 0.2,
    "optim.learning_rate": 1e-3,
    "log.prompts": ["def "],  # every rank takes part in what a divided model writes
    "log.sample_tokens": 2,
}
LIKING: dict[str, Any] = {"wanted_weight": 10.0, "unwanted_weight": 0.01, "steps": 3}
BRACKETS = [{"kind": "regex", "pattern": "[(]"}]
ROLLOUTS: dict[str, Any] = {
    "prompts": 4,
    "group": 4,
    "max_prompt": 64,
    "max_tokens": 6,
    "micro_batch_size": 2,
    "block_size": 128,
    "rewards": BRACKETS,
    "data": "tasks",
}
RUNS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dpo": (dpo, DPOConfig, {"max_length": 96, "batch_size": 4, "data": "pairs"}),
    "dpo_fsdp": (
        dpo,
        DPOConfig,
        {"max_length": 96, "batch_size": 4, "data": "pairs", "adapt": "full", "parallel.strategy": "fsdp"},
    ),
    # Both ranks' mismatched answers make one reference point, whether rows are computed at once or not.
    "kto": (dpo, DPOConfig, {"max_length": 96, "batch_size": 4, "data": "pairs", "loss": "kto", **LIKING}),
    "kto_fsdp_in_parts": (
        dpo,
        DPOConfig,
        {
            "max_length": 96,
            "batch_size": 4,
            "micro_batch_size": 1,
            "data": "pairs",
            "adapt": "full",
            "loss": "kto",
            **LIKING,
            "parallel.strategy": "fsdp",
        },
    ),
    "grpo": (
        grpo,
        GRPOConfig,
        ROLLOUTS,
    ),
    "dpo_tp": (
        dpo,
        DPOConfig,
        {"max_length": 96, "batch_size": 4, "data": "pairs", "adapt": "dora", "parallel.tp": 2},
    ),
    "ipo_cp": (
        dpo,
        DPOConfig,
        {
            "max_length": 96,
            "batch_size": 4,
            "data": "pairs",
            "adapt": "qlora",
            "loss": "ipo",
            "parallel.cp": 2,
        },
    ),
    "grpo_fsdp": (grpo, GRPOConfig, {**ROLLOUTS, "adapt": "full", "parallel.strategy": "fsdp"}),
    "grpo_tp": (grpo, GRPOConfig, {**ROLLOUTS, "adapt": "dora", "parallel.tp": 2}),
    "grpo_cp": (
        grpo,
        GRPOConfig,
        {
            **ROLLOUTS,
            "adapt": "qlora",
            "updates": 2,
            "loss.level": "sequence",
            "loss.beta": 0.1,
            "parallel.cp": 2,
        },
    ),
    "distill_tp": (
        distill,
        DistillConfig,
        {"block_size": 96, "batch_size": 4, "preset": "tiny", "data": "tasks", "parallel.tp": 2},
    ),
    "distill_cp": (
        distill,
        DistillConfig,
        {
            "block_size": 96,
            "batch_size": 4,
            "model": "model",
            "adapt": "qlora",
            "data": "tasks",
            "parallel.cp": 2,
        },
    ),
    "distill_fsdp": (
        distill,
        DistillConfig,
        {"block_size": 96, "batch_size": 4, "preset": "tiny", "data": "tasks", "parallel.strategy": "fsdp"},
    ),
}


def prepare(folder: Path) -> None:
    """The model and the data that all runs begin with."""
    small_model(folder / "model", steps=40)
    lines = source_lines(textwrap, argparse)[:80]
    rows = [{"prompt": f"{a}\n", "chosen": b, "rejected": b.upper()} for a, b in pairwise(lines)]
    write_rows(folder / "pairs.jsonl", rows)
    write_rows(folder / "tasks.jsonl", [{"prompt": line, "text": line} for line in lines[:40]])


ALONE = {"strategy": "auto", "tp": 1, "cp": 1}


class Run:
    """A recipe's run for `run_checks`; the result is the metrics and the weights written."""

    def __init__(self, name: str, folder: Path, ranks: int) -> None:
        self.__name__ = f"{name}_{ranks}"
        self.name, self.folder, self.ranks = name, folder, ranks

    def __call__(self, rank: int = 0, where: Path | None = None) -> dict[str, Any]:
        torch.set_num_threads(1)
        function, settings, given = RUNS[self.name]
        out = self.folder / self.__name__
        base = {"teacher" if self.name.startswith("distill") else "model": str(self.folder / "model")}
        data = {"data": str(self.folder / f"{given['data']}.jsonl")}
        only = {} if self.ranks > 1 else {f"parallel.{name}": value for name, value in ALONE.items()}
        if "model" in given:
            base["model"] = str(self.folder / given["model"])
        metrics = function(read(settings, (), {**SHARED, **given, **base, **data, "out": str(out), **only}))
        return {"metrics": metrics, "weights": load_file(out / "model.safetensors")}
