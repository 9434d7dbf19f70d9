"""The recipe on real source code: it learns, survives a restart exactly, and runs as two ranks."""

import json
import math
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blixt.llm import LLM, LLMError, prepare, pretrain, train_tokenizer
from blixt.llm.shards import open_tokens
from blixt.llm.weights import load_checkpoint

STDLIB = Path(sysconfig.get_path("stdlib"))
SMALL: dict[str, Any] = {"preset": "tiny", "batch_size": 8, "block_size": 64, "val_every": 10}
EXAMPLES = Path(__file__).parents[3] / "examples" / "llm"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    tokenizer = train_tokenizer([STDLIB / "asyncio"], out=folder / "tokenizer.json", vocab_size=512)
    prepare([STDLIB / "asyncio"], tokenizer=tokenizer, out=folder / "data", val_fraction=0.2, workers=0)
    return folder / "data"


def test_loss_falls_from_log_vocabulary_and_the_best_weights_are_exported(
    tokens: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    metrics = pretrain(tokens, out=out, steps=60, **SMALL)
    assert metrics["val_loss"] < math.log(512) - 1
    assert json.loads((out / "metrics.json").read_text()) == metrics
    held_out = open_tokens(tokens, "val", SMALL["block_size"])
    rows = held_out.order.at(np.arange(min(len(held_out) // 8 * 8, 64)))
    blocks = torch.from_numpy(held_out.gather(rows))
    with torch.inference_mode():
        again = LLM.load(out).model.loss(blocks[:, :-1], blocks[:, 1:]).item()
    assert again == pytest.approx(metrics["val_loss"], rel=1e-4)


def test_a_run_killed_and_started_again_ends_with_the_weights_of_one_that_was_not(
    tokens: Path, tmp_path: Path
) -> None:
    whole = pretrain(tokens, out=tmp_path / "whole" / "model", steps=24, **SMALL)
    killed = run_recipe(tokens, tmp_path / "killed" / "model", kill_at=15)
    assert killed.returncode == -9, killed.stderr
    again = pretrain(tokens, out=tmp_path / "killed" / "model", steps=24, **SMALL)
    assert again["val_loss"] == whole["val_loss"]
    weights = [load_checkpoint(tmp_path / name / "model").state_dict() for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_finished_run_started_again_changes_nothing(tokens: Path, tmp_path: Path) -> None:
    first = pretrain(tokens, out=tmp_path / "model", steps=4, **SMALL)
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()[-1000:]
    assert pretrain(tokens, out=tmp_path / "model", steps=4, **SMALL) == first
    assert (tmp_path / "model" / "model.safetensors").read_bytes()[-1000:] == weights


def test_two_ranks_share_the_batch_and_agree_with_one(tokens: Path, tmp_path: Path) -> None:
    one = pretrain(tokens, out=tmp_path / "one" / "model", steps=12, **SMALL)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["-m", "blixt", "llm", "pretrain", str(tokens), "--out", str(tmp_path / "two" / "model")]
    options = [f"--{name}={value}" for name, value in {**SMALL, "steps": 12}.items()]
    ran = subprocess.run([*torchrun, *words, *options, "--json"], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    two = json.loads(ran.stdout)  # one of them tells the result
    assert two == json.loads((tmp_path / "two" / "model" / "metrics.json").read_text())
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=0.02)


def test_a_wrong_preset_is_refused_before_anything_is_written(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(LLMError, match="huge"):
        pretrain(tokens, out=tmp_path / "model", preset="huge")
    assert not list(tmp_path.iterdir())


def test_the_example_runs() -> None:
    script = EXAMPLES / "stdlib_gpt.py"
    options = ["--steps", "4", "--text", "300KB", "--preset", "tiny"]
    ran = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert "def" not in ran.stderr


def run_recipe(tokens: Path, out: Path, *, kill_at: int) -> subprocess.CompletedProcess[str]:
    """Run the recipe in a process that kills itself with SIGKILL before a step."""
    code = f"""
import os, signal
from blixt.llm.recipes import pretrain as recipe
step, done = recipe.train_step, []
def deadly(*args, **options):
    done.append(1)
    if len(done) > {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **options)
recipe.train_step = deadly
recipe.pretrain({str(tokens)!r}, out={str(out)!r}, steps=24, **{SMALL})
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=500, env=os.environ
    )
