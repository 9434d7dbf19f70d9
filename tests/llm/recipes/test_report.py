"""What a run says of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import CSVLogger, Fabric, measure_flops
from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.errors import RecipeError
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.model import GPT
from blixt.llm.recipes import report as module
from blixt.llm.recipes.report import LogConfig, Report, flops_per_token, make_loggers
from blixt.llm.specs import MoESpec, RopeSpec

CONFIG = ModelConfig(vocab=512, d=64, layers=2, heads=4, kv_heads=2, context=128, tie=False)


class Rows:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def finalize(self, status: str) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def a_report(steps: int = 4, **options: Any) -> tuple[Report, Rows]:
    fabric, rows = Fabric(accelerator="cpu", devices=1), Rows()
    fabric.loggers.append(rows)  # type: ignore[arg-type]
    return Report(fabric, LogConfig(**options), steps, flops_per_token=50.0), rows


def test_speed_counts_real_tokens_and_leaves_out_what_is_done_aside(clock: list[float]) -> None:
    report, logged = a_report(every=2, peak_flops=1e4)
    clock[0] += 1
    report.step(1, torch.tensor(100), loss=torch.tensor(2.0))
    clock[0] += 1
    with report.aside():
        clock[0] += 50
    report.step(2, 300, loss=1.5)
    assert logged.rows[0][0] == 0
    assert logged.rows[0][1]["tokens_per_s"] == pytest.approx(100)
    assert logged.rows[1][1]["tokens_per_s"] == pytest.approx(300)
    assert logged.rows[1][1]["mfu"] == pytest.approx(300 * 50 / 1e4)
    assert logged.rows[1][1]["loss"] == 1.5
    assert logged.rows[1][1]["memory_gb"] > 0


def test_rows_come_every_so_often_and_at_both_ends() -> None:
    report, _ = a_report(steps=10, every=4)
    assert [step for step in range(1, 11) if report.due(step)] == [1, 4, 8, 10]
    assert a_report(steps=5000)[0].every == 10


def test_samples_are_due_at_both_ends_and_in_between_when_there_are_prompts() -> None:
    report, _ = a_report(steps=10, prompts=("a",), sample_every=4)
    assert [step for step in range(11) if report.samples_due(step)] == [0, 4, 8, 10]
    assert not a_report(steps=10)[0].samples_due(0)


def test_the_flops_of_a_token_are_those_that_torch_counts() -> None:
    length = 32
    model = GPT(CONFIG)
    tokens = torch.randint(0, 512, (1, length))
    counted = measure_flops(model, lambda: model(tokens), lambda y: y.sum())
    attention = 12 * CONFIG.layers * CONFIG.heads * CONFIG.head_dim * length / 2
    ours = (flops_per_token(model, CONFIG, length) - attention) * length
    assert counted == pytest.approx(ours, rel=0.12)  # torch counts attention's kernel in its own way


def test_frozen_weights_closed_experts_and_windows_cost_less() -> None:
    whole = flops_per_token(GPT(CONFIG), CONFIG, 128)
    frozen = flops_per_token(add_lora(GPT(CONFIG), LoRAConfig(r=1)), CONFIG, 128)
    assert 0.6 < frozen / whole < 0.75
    sizes: dict[str, Any] = {"vocab": 512, "d": 64, "layers": 2, "heads": 4, "kv_heads": 2, "context": 128}
    moe = ModelConfig(**sizes, moe=MoESpec(experts=8, top_k=2, d_ff=64))
    dense = ModelConfig(**sizes, d_ff=8 * 64)
    assert flops_per_token(GPT(moe), moe, 128) < flops_per_token(GPT(dense), dense, 128)
    windowed = ModelConfig(
        **sizes, tie=False, layer_specs=(LayerSpec(attn="sliding", window=8, rope=RopeSpec()),) * 2
    )
    assert flops_per_token(GPT(windowed), windowed, 128) < whole


def test_loggers_are_made_by_name_and_a_jobs_experiment_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (csv,) = make_loggers(LogConfig(loggers=("csv",)), tmp_path)
    assert isinstance(csv, CSVLogger)
    for name in ("BLIXT_URL", "BLIXT_TOKEN", "BLIXT_EXPERIMENT", "BLIXT_TEAMSPACE"):
        monkeypatch.setenv(name, "http://127.0.0.1:9" if name == "BLIXT_URL" else "x")
    assert len(make_loggers(LogConfig(), tmp_path)) == 1
    assert make_loggers(LogConfig(), tmp_path, experiment=False) == []
    with pytest.raises(RecipeError, match=r"log\.every is -1"):
        LogConfig(every=-1)
