"""Lightning's smaller pieces, each under its name in `own`: what it does, not where it is."""

import inspect
import json
import math
import sys
from argparse import Namespace
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from blixt import fabric
from blixt.compat.lightning.own import (
    imports,
    loading,
    memory,
    parsing,
    precisions,
    registries,
    saving,
    spike,
    stats,
    types,
    xla,
)
from blixt.fabric import ConfigError, DDPStrategy, Fabric, MissingPackageError
from blixt.trainer import Trainer
from blixt.trainer.boring import BoringModel
from blixt.trainer.callbacks.spike_detection import TrainingSpikeException

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed"])
def test_the_precision_of_fsdp_trains_a_module_and_is_found_again(precision: Any) -> None:
    plugin = precisions.FSDPPrecision(precision)
    trainer = Trainer(plugins=plugin, fast_dev_run=1, **QUIET)
    trainer.fit(BoringModel())
    assert isinstance(trainer.precision_plugin, precisions.FSDPPrecision)
    assert trainer.precision == plugin.precision == precision


def test_the_precision_of_a_strategy_takes_its_names_and_a_scaler_only_where_one_scales() -> None:
    with pytest.raises(ConfigError, match=r"FSDPPrecision\(precision='64-true'\)"):
        precisions.FSDPPrecision("64-true")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bf16-mixed scales no loss"):
        precisions.FSDPPrecision("bf16-mixed", scaler=torch.amp.GradScaler("cpu"))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    own = precisions.FSDPPrecision("16-mixed", scaler=scaler)
    assert own.make_scaler(torch.device("cpu")) is scaler
    assert precisions.DeepSpeedPrecision("16-true").storage_dtype is torch.float16


def test_a_registered_strategy_is_found_by_its_name_in_trainer_and_fabric() -> None:
    registry = registries.StrategyRegistry

    @registry.register("patient", description="waits long", timeout_s=7200.0)
    class Patient(DDPStrategy):  # pyright: ignore[reportUnusedClass]
        pass

    try:
        assert registry["patient"]["description"] == "waits long"
        assert registry["patient"]["init_params"] == {"timeout_s": 7200.0}
        assert registry.get("patient").timeout_s == 7200.0
        assert "patient" in registry.available_strategies()
        assert Fabric(accelerator="cpu", strategy="patient").strategy.timeout_s == 7200.0
        assert type(Trainer(strategy="patient", **QUIET).strategy).__name__ == "Patient"
        with pytest.raises(ConfigError, match="it is taken"):
            registry.register("patient", DDPStrategy)
        registry.register("patient", DDPStrategy, override=True)
        assert type(registry.get("patient")) is DDPStrategy
    finally:
        registry.remove("patient")
    assert "patient" not in registry.available_strategies()
    with pytest.raises(KeyError, match="no strategy 'patient'"):
        registry.get("patient")
    assert registry.get("patient", "none") == "none"


def test_a_registered_accelerator_is_found_by_its_name() -> None:
    registry = registries.AcceleratorRegistry

    class Second(fabric.CPUAccelerator):
        name = "second"

    registry.register("second", Second, description="a CPU again")
    try:
        assert "second" in registry.available_accelerators()
        assert isinstance(Fabric(accelerator="second").accelerator, Second)
    finally:
        registry.remove("second")
    with pytest.raises(ConfigError, match="no such accelerator"):
        Fabric(accelerator="second")


def test_a_jump_of_the_loss_ends_a_loop_with_fabric_and_names_its_batches(tmp_path: Path) -> None:
    callback = spike.SpikeDetection(exclude_batches_path=tmp_path, warmup=1)
    own = Fabric(accelerator="cpu", callbacks=[callback])
    for index, loss in enumerate([1.0, 0.9, 1.0]):
        own.call("on_train_batch_end", own, torch.tensor(loss), None, index)
    with pytest.raises(TrainingSpikeException, match="batch 3") as raised:
        own.call("on_train_batch_end", own, torch.tensor(50.0), None, 3)
    assert raised.value.batch_idx == 3
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == [2, 3]


def test_the_profiler_of_xla_needs_torch_xla() -> None:
    with pytest.raises(MissingPackageError, match="XLAProfiler needs the package torch_xla"):
        xla.XLAProfiler()


def test_the_profiler_of_xla_marks_steps_with_their_number_and_serves_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    class Trace:
        def __init__(self, name: str, **more: int) -> None:
            self.said = (name, *more.values())

        def __enter__(self) -> None:
            seen.append(("begin", *self.said))

        def __exit__(self, *error: object) -> None:
            seen.append(("end", *self.said))

    tracing: Any = ModuleType("torch_xla.debug.profiler")
    tracing.Trace = tracing.StepTrace = Trace
    tracing.start_server = lambda port: seen.append(("serve", port))  # pyright: ignore[reportUnknownLambdaType]
    for name in ("torch_xla", "torch_xla.debug"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch_xla.debug.profiler", tracing)
    profiler = xla.XLAProfiler(port=9100)
    for name in ("[M]Net.training_step", "[C]Bar.on_fit_start", "[M]Net.test_step", "[M]Net.test_step"):
        with profiler.profile(name):
            pass
    step = "[M]Net.test_step"
    assert seen[0] == ("serve", 9100)
    assert seen[1:3] == [("begin", "[M]Net.training_step"), ("end", "[M]Net.training_step")]
    assert seen[3:] == [("begin", step, 1), ("end", step, 1), ("begin", step, 2), ("end", step, 2)]


def test_constructors_tell_their_arguments_class_by_class() -> None:
    class Base:
        def __init__(self, width: int, **rest: Any) -> None:
            super().__init__()
            frame = inspect.currentframe()
            assert frame is not None
            self.found = parsing.collect_init_args(frame, [])

    class Child(Base):
        def __init__(self, depth: int, *layers: int) -> None:
            super().__init__(width=2 * depth, bias=True)

    assert Child(3).found == [{"width": 6, "bias": True}, {"depth": 3}]
    assert parsing.parse_class_init_keys(Base) == ("self", None, "rest")
    assert parsing.parse_class_init_keys(Child) == ("self", "layers", None)


def test_what_cannot_be_pickled_leaves_the_hyper_parameters_with_a_warning() -> None:
    hparams: dict[str, Any] = {"lr": 0.1, "fn": lambda: None}
    with pytest.warns(UserWarning, match="fn is left out"):
        parsing.clean_namespace(hparams)
    assert hparams == {"lr": 0.1}


def test_small_conversions() -> None:
    assert [parsing.convert(text) for text in ("1", "0.5", "True", "word")] == [1, 0.5, True, "word"]
    assert [parsing.convert_inf(x) for x in (None, math.inf, math.nan, 3)] == [None, None, None, 3]


def test_what_the_machine_tells() -> None:
    assert {"cpu_percent", "cpu_vm_percent"} <= stats.get_cpu_stats().keys()
    assert imports.package_available("torch")
    assert not imports.module_available("no_such_package.part")
    assert imports.__getattr__("_TORCH_GREATER_EQUAL_2_6")
    assert memory.is_cudnn_snafu(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. Maybe"))
    assert memory.is_out_of_cpu_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_out_of_cpu_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))


def test_the_numbers_of_a_gpu_need_its_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="nvidia-smi is not on PATH"):
        stats.get_nvidia_gpu_stats(0)


def test_protocols_know_optimizers() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    assert isinstance(optimizer, types.Optimizable)
    assert not isinstance(Namespace(), types.Steppable)


def test_a_lazy_checkpoint_gives_its_tensors_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"weight": torch.arange(6.0), "step": 3}, tmp_path / "a.ckpt")
    state = loading.lazy_load(tmp_path / "a.ckpt")
    assert torch.equal(state["weight"], torch.arange(6.0))
    assert not isinstance(state["weight"], loading.NotYetLoadedTensor)
    with pytest.raises(FileNotFoundError):
        loading.lazy_load(tmp_path / "b.ckpt")
    with torch.device("meta"):
        layer = nn.Linear(2, 2)
    loading.materialize_meta_tensors(layer, "cpu")
    assert layer.weight.device.type == "cpu"
    assert layer.weight.abs().max() < 1


def test_fabric_says_what_replaced_sharded_model() -> None:
    own: Any = Fabric(accelerator="cpu")
    with pytest.raises(AttributeError, match=r"has no attribute 'sharded_model'\. Make the module under"):
        own.sharded_model()
    with pytest.raises(AttributeError, match="has no attribute 'anything'"):
        own.anything  # noqa: B018


def test_numbers_that_a_module_logs_together_reach_a_logger_together() -> None:
    rows: list[dict[str, Any]] = []

    class Keeper(fabric.DummyLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            rows.append(dict(metrics))

    module = Fabric(accelerator="cpu", loggers=Keeper()).setup(BoringModel())
    module.log_dict({"int": 1, "tensor": torch.tensor(0.5)})
    module.log_dict({"left": 1}, logger=False)
    assert rows == [{"int": 1, "tensor": 0.5}]


def test_hyper_parameters_in_yaml_are_plain_values(tmp_path: Path) -> None:
    class Kind(StrEnum):
        SMALL = "s"

    with pytest.warns(UserWarning, match="'kind_of_number' is no YAML"):
        saving.save_hparams_to_yaml(
            tmp_path / "a.yaml", {"lr": 0.1, "kind": Kind.SMALL, "kind_of_number": torch.float32}
        )
    read = saving.load_hparams_from_yaml(tmp_path / "a.yaml")
    assert read == {"lr": 0.1, "kind": "SMALL", "kind_of_number": "dtype"}


def test_a_short_name_on_the_command_line_is_the_logger_with_lightnings_folder(tmp_path: Path) -> None:
    from blixt.compat.lightning.own.trainer import CLI, CSVLogger

    words = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    made = CLI(
        BoringModel, run=False, args=[*words, "--trainer.accelerator=cpu"], seed_everything_default=False
    )
    assert isinstance(made.trainer.logger, CSVLogger)
    assert made.trainer.log_dir == str(tmp_path / "lightning_logs" / "version_0")
