"""Where the time goes: profilers, and the names of what they measure."""

import json
import pickle
import pstats
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import ConfigError
from blixt.trainer import AdvancedProfiler, PassThroughProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from blixt.trainer.boring import BoringModel
from blixt.trainer.profilers import resolve_profiler, timed
from blixt.trainer.profilers.instrument import timed_items
from blixt.trainer.profilers.pytorch import RegisterRecordFunction


class Listing(Profiler):
    """Keeps the order of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def start(self, action_name: str) -> None:
        self.told.append(action_name)

    def stop(self, action_name: str) -> None:
        self.told.append(f"/{action_name}")


@pytest.mark.parametrize(
    ("given", "kind"),
    [("simple", SimpleProfiler), ("ADVANCED", AdvancedProfiler), ("pytorch", PyTorchProfiler)],
)
def test_a_name_means_a_profiler(given: str, kind: type) -> None:
    assert type(resolve_profiler(given)) is kind


def test_none_and_pass_through_are_no_profiler_and_others_stay() -> None:
    own = Listing()
    assert resolve_profiler(None) is None
    assert resolve_profiler(PassThroughProfiler()) is None
    assert resolve_profiler(own) is own
    with pytest.raises(ConfigError, match=r"Trainer\(profiler='simpel'\).*Did you mean 'simple'"):
        resolve_profiler("simpel")
    with pytest.raises(ConfigError, match="it is no Profiler"):
        resolve_profiler(3)


def test_the_trainer_measures_hooks_steps_batches_and_loaders_by_their_names(trainer: Any) -> None:
    profiler = Listing()
    trainer(profiler=profiler, max_epochs=1, limit_train_batches=2, limit_val_batches=1).fit(BoringModel())
    told = set(profiler.told)
    assert {
        "run_training_epoch",
        "run_training_batch",
        "[_TrainingEpochLoop].train_dataloader_next",
        "[_EvaluationLoop].val_next",
        "[Strategy]SingleDeviceStrategy.training_step",
        "[Strategy]SingleDeviceStrategy.validation_step",
    } <= told
    assert told == {name for name in told if f"/{name}" in told or name.startswith("/")}
    assert profiler.told.count("[Strategy]SingleDeviceStrategy.training_step") == 2


# --- simple -------------------------------------------------------------------------------------------


def test_durations_are_kept_by_action_and_told_as_a_table() -> None:
    profiler = SimpleProfiler()
    for _ in range(3):
        with profiler.profile("fast"):
            pass
    with profiler.profile("slow"):
        sum(range(10000))
    assert [len(profiler.recorded_durations[name]) for name in ("fast", "slow")] == [3, 1]
    lines = profiler.summary().splitlines()
    assert lines[0] == "Profiler Report"
    assert [word for word in ("Mean duration (s)", "Num calls", "Percentage %") if word in lines[3]]
    assert lines[6].startswith("|  slow"), "the slowest comes first"


def test_the_short_table_has_no_counts() -> None:
    profiler = SimpleProfiler(extended=False)
    with profiler.profile("x"):
        pass
    assert "Num calls" not in profiler.summary()
    assert SimpleProfiler(extended=False).summary().startswith("Profiler Report")


def test_an_action_is_stopped_when_its_body_fails_and_not_started_twice() -> None:
    profiler = SimpleProfiler()
    with pytest.raises(ZeroDivisionError), profiler.profile("x"):
        _ = 1 / 0
    assert len(profiler.recorded_durations["x"]) == 1
    profiler.start("y")
    with pytest.raises(ValueError, match="already started"):
        profiler.start("y")
    with pytest.raises(ValueError, match="never started"):
        profiler.stop("z")


def test_reports_of_each_stage_go_to_files_of_their_own(trainer: Any, tmp_path: Path) -> None:
    run = trainer(profiler=SimpleProfiler(tmp_path, "report"), max_epochs=1, limit_train_batches=2)
    model = BoringModel()
    run.fit(model)
    run.test(model, verbose=False)
    assert "run_training_batch" in (tmp_path / "fit-report.txt").read_text()
    assert (tmp_path / "test-report.txt").read_text().startswith("TEST Profiler Report")


def test_without_a_file_the_report_is_printed(trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(profiler="simple", fast_dev_run=True).fit(BoringModel())
    assert "FIT Profiler Report" in capsys.readouterr().out


# --- advanced -----------------------------------------------------------------------------------------


def busy() -> int:
    return sum(range(1000))


def test_functions_of_each_action_are_listed_and_dumped(tmp_path: Path) -> None:
    profiler = AdvancedProfiler(tmp_path, "calls", dump_stats=True)
    with profiler.profile("outer"):
        with profiler.profile("inner"):
            busy()
        sorted([3, 1, 2])
    profiler.describe()
    text = (tmp_path / "calls.txt").read_text()
    outer, inner = text.split("Profile stats for: inner")
    assert "busy" in inner
    assert "sorted" in outer, "the outer action goes on after the inner one"
    dumped = pstats.Stats(str(tmp_path / "calls-inner.prof"))
    assert any(name == "busy" for _, _, name in dumped.stats)


def test_an_advanced_profiler_travels_to_other_processes() -> None:
    profiler = AdvancedProfiler("here", "file", line_count_restriction=0.5)
    with profiler.profile("x"):
        busy()
    twin = pickle.loads(pickle.dumps(profiler))
    assert (twin.dirpath, twin.filename, twin.line_count_restriction) == ("here", "file", 0.5)
    with pytest.raises(ValueError, match="never started"):
        twin.stop("y")


def test_the_trainer_runs_under_the_advanced_profiler(trainer: Any, tmp_path: Path) -> None:
    trainer(profiler=AdvancedProfiler(tmp_path, "calls"), fast_dev_run=True).fit(BoringModel())
    assert "boring.py" in (tmp_path / "fit-calls.txt").read_text()


# --- pytorch ------------------------------------------------------------------------------------------


def trace_names(folder: Path) -> set[str]:
    (path,) = folder.glob("*.pt.trace.json")
    return {event.get("name", "") for event in json.loads(path.read_text())["traceEvents"]}


def test_operators_actions_and_submodules_are_in_the_trace(trainer: Any, tmp_path: Path) -> None:
    profiler = PyTorchProfiler(tmp_path, "ops")
    trainer(profiler=profiler, max_epochs=1, limit_train_batches=6, limit_val_batches=1).fit(BoringModel())
    names = trace_names(tmp_path)
    assert "[pl][profile][Strategy]SingleDeviceStrategy.training_step" in names
    assert "[pl][module]torch.nn.modules.linear.Linear: layer" in names
    assert "aten::linear" in (tmp_path / "fit-ops.txt").read_text()


def test_a_run_too_short_for_the_schedule_is_recorded_whole(trainer: Any, tmp_path: Path) -> None:
    profiler = PyTorchProfiler(tmp_path, "ops")
    trainer(profiler=profiler, fast_dev_run=True).fit(BoringModel())
    assert "aten::linear" in (tmp_path / "fit-ops.txt").read_text()


def test_a_schedule_and_a_handler_of_ones_own_are_used(trainer: Any, tmp_path: Path) -> None:
    ready: list[Any] = []
    profiler = PyTorchProfiler(
        tmp_path,
        schedule=torch.profiler.schedule(wait=0, warmup=1, active=1, repeat=2),
        on_trace_ready=ready.append,
        record_module_names=False,
    )
    trainer(profiler=profiler, max_epochs=1, limit_train_batches=8, limit_val_batches=0).fit(BoringModel())
    assert len(ready) == 2
    assert not list(tmp_path.glob("*.json"))


def test_a_test_counts_its_own_steps(trainer: Any, tmp_path: Path) -> None:
    profiler = PyTorchProfiler(tmp_path, "ops")
    trainer(profiler=profiler, limit_test_batches=6).test(BoringModel(), verbose=False)
    assert "[pl][profile][Strategy]SingleDeviceStrategy.test_step" in trace_names(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sort_by_key": "cpu_tim"}, r"sort_by_key='cpu_tim'.*Did you mean 'cpu_time'"),
        ({"table_kwargs": {"row_limit": 3}}, "the table has no such argument"),
        ({"profile_memroy": True}, "Did you mean 'profile_memory'"),
        ({"schedule": lambda step: 3}, "Use torch.profiler.schedule"),
    ],
)
def test_what_torch_does_not_know_is_refused_at_once(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PyTorchProfiler(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so ranges can be emitted")
def test_ranges_for_nvidias_profilers_need_a_cuda_device() -> None:
    with pytest.raises(ConfigError, match="there is no CUDA device"):
        PyTorchProfiler(emit_nvtx=True).start("x")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="emit_nvtx marks CUDA ranges")
def test_ranges_are_emitted_on_a_cuda_device(trainer: Any) -> None:
    run = trainer(profiler=PyTorchProfiler(emit_nvtx=True), fast_dev_run=True, accelerator="cuda")
    run.fit(BoringModel())


def test_marks_around_submodules_go_when_the_context_ends() -> None:
    model = BoringModel()
    with RegisterRecordFunction(model), torch.profiler.profile() as profiler:
        model(torch.ones(1, 32))
    names = [event.key for event in profiler.key_averages()]
    assert "[pl][module]torch.nn.modules.linear.Linear: layer" in names
    assert not model.layer._forward_hooks
    assert not model.layer._forward_pre_hooks


# --- instruments --------------------------------------------------------------------------------------


def test_a_timed_function_stops_its_action_also_when_it_fails() -> None:
    profiler = Listing()
    assert timed(profiler, "f", lambda x: x + 1)(2) == 3
    with pytest.raises(ZeroDivisionError):
        timed(profiler, "g", lambda: 1 / 0)()
    assert profiler.told == ["f", "/f", "g", "/g"]


def test_waiting_for_items_is_an_action_each() -> None:
    profiler = Listing()
    assert list(timed_items(profiler, "next", [1, 2])) == [1, 2]
    assert profiler.told == ["next", "/next"] * 3


def test_without_a_profiler_hooks_and_steps_are_called_as_they_are(trainer: Any) -> None:
    run = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    run.fit(BoringModel())
    assert not run.has_profiler


def test_events_stay_readable_after_the_report() -> None:
    profiler = PyTorchProfiler(schedule=None, export_to_chrome=False)
    with profiler.profile("outer"), profiler.profile("inner"):
        _ = torch.ones(3) + 1
    profiler.describe()
    names = {event.name for event in profiler.function_events or []}
    assert {"[pl][profile]outer", "[pl][profile]inner", "aten::add"} <= names
