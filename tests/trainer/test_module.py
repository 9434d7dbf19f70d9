"""What a `Module` offers beyond its hooks: in a Trainer, in a Fabric and alone."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError, Fabric, FabricError, Logger
from blixt.trainer import Module
from blixt.trainer.boring import BoringModel, ManualOptimBoringModel, RandomDataset


class Rows(Logger):
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "rows"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append(dict(metrics))


def test_alone_it_answers_with_neutral_values_and_log_only_warns() -> None:
    module = BoringModel()
    assert (module.current_epoch, module.global_step, module.global_rank, module.local_rank) == (0, 0, 0, 0)
    assert (module.logger, module.loggers, module.fabric, module.device_mesh) == (None, [], None, None)
    assert (module.device, module.dtype, module.on_gpu) == (torch.device("cpu"), torch.float32, False)
    with pytest.warns(UserWarning, match="no Trainer runs this BoringModel"):
        module.log("x", 1.0)
    with pytest.raises(RuntimeError, match="BoringModel is not attached to a `Trainer`"):
        _ = module.trainer
    module.print("seen")


def test_nested_modules_know_the_trainer_and_log(trainer: Any) -> None:
    class Inner(Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.log("inner", x.mean())
            return x

    class Outer(BoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.step(self.inner(batch))

    run, module = trainer(fast_dev_run=True), Outer()
    run.fit(module)
    assert module.inner.trainer is run
    assert "inner" in run.logged_metrics


def test_copies_and_pickles_leave_the_trainer_behind(trainer: Any) -> None:
    module = BoringModel()
    trainer(fast_dev_run=True).fit(module)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin.layer.weight, module.layer.weight)
        with pytest.raises(RuntimeError, match="not attached"):
            _ = twin.trainer


def test_freeze_and_unfreeze_take_the_parameters_along() -> None:
    module = BoringModel()
    assert module.freeze() is module
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert module.unfreeze().training
    assert all(p.requires_grad for p in module.parameters())


# --- manual optimisation ----------------------------------------------------------------------------------


class Pair(ManualOptimBoringModel):
    """Two layers with an optimizer each; the second layer's bias is frozen from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(2, 2)
        self.other.bias.requires_grad = False
        self.seen: list[list[bool]] = []

    def wants(self) -> list[bool]:
        return [p.requires_grad for p in (self.layer.weight, self.other.weight, self.other.bias)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        for optimizer in (first, second):
            with self.toggled_optimizer(optimizer):
                self.seen.append(self.wants())
                self.manual_backward(self.loss(self.other(self(batch))))
                optimizer.step()
                optimizer.zero_grad()
        self.seen.append(self.wants())

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]


def test_a_toggled_optimizer_is_alone_and_frozen_parameters_stay_frozen(trainer: Any) -> None:
    module = Pair()
    trainer(fast_dev_run=True).fit(module)
    assert module.seen == [[True, False, False], [False, True, False], [True, True, False]]


def test_toggling_ends_with_an_error_in_the_body(trainer: Any) -> None:
    class Failing(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            with pytest.raises(ZeroDivisionError), self.toggled_optimizer(self.optimizers()[0]):
                _ = 1 / 0
            self.seen.append(self.wants())

    module = Failing()
    trainer(fast_dev_run=True).fit(module)
    assert module.seen == [[True, True, False]]


def test_manual_backward_needs_manual_optimisation(trainer: Any) -> None:
    class Automatic(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.step(batch)
            self.manual_backward(loss)
            return loss

    with pytest.raises(ConfigError, match="Set automatic_optimization = False"):
        trainer(fast_dev_run=True).fit(Automatic())


def test_manual_backward_runs_the_hooks_and_passes_arguments_on(trainer: Any) -> None:
    calls: list[str] = []

    class Twice(ManualOptimBoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = self.step(batch)
            self.manual_backward(loss, retain_graph=True)
            self.manual_backward(loss)

        def on_after_backward(self) -> None:
            calls.append("after")

    trainer(fast_dev_run=True).fit(Twice())
    assert calls == ["after", "after"]


@pytest.mark.parametrize(("algorithm", "norm"), [("norm", 0.5), ("value", None)])
def test_gradients_can_be_clipped_by_hand(algorithm: str, norm: float | None, trainer: Any) -> None:
    seen: list[torch.Tensor] = []

    class Clipping(ManualOptimBoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(1000 * self.step(batch))
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm=algorithm)
            seen.extend(p.grad.clone() for p in self.parameters() if p.grad is not None)

    trainer(fast_dev_run=True).fit(Clipping())
    gradients = torch.cat([gradient.flatten() for gradient in seen])
    if norm is not None:
        assert float(gradients.norm()) == pytest.approx(norm, rel=1e-4)
    assert float(gradients.abs().max()) <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"gradient_clip_val": 0.1}, r"Trainer\(gradient_clip_val=0.5\) says otherwise"),
        ({"gradient_clip_algorithm": "value"}, r"Trainer\(gradient_clip_algorithm='norm'\) says otherwise"),
    ],
)
def test_clipping_is_said_in_one_place(given: dict[str, Any], sentence: str, trainer: Any) -> None:
    class Contradicting(BoringModel):
        def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            self.clip_gradients(optimizer, **given)

    options = {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}
    with pytest.raises(ConfigError, match=sentence):
        trainer(fast_dev_run=True, **options).fit(Contradicting())


def test_optimizers_and_schedulers_are_one_or_a_list(trainer: Any) -> None:
    seen: dict[str, Any] = {}

    class Looking(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.update(one=self.optimizers(), bare=self.optimizers(use_pl_optimizer=False))
            seen.update(schedule=self.lr_schedulers())
            return super().training_step(batch, batch_idx)

    trainer(fast_dev_run=True).fit(Looking())
    assert isinstance(seen["one"], torch.optim.SGD)
    assert type(seen["bare"]) is torch.optim.SGD
    assert isinstance(seen["schedule"], torch.optim.lr_scheduler.StepLR)


# --- in a Fabric ------------------------------------------------------------------------------------------


class InFabric(BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.step(batch)
        self.log("loss", loss)
        self.log_dict({"twice": 2 * loss.detach(), "index": batch_idx}, on_epoch=True)
        self.log("quiet", 1.0, logger=False)
        return loss


def test_a_module_trains_and_logs_in_a_fabric() -> None:
    rows = Rows()
    fabric = Fabric(accelerator="cpu", devices=1, loggers=rows)
    module = InFabric()
    wrapped, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=0.1))
    loss = wrapped.training_step(torch.ones(4, 32), 0)
    module.manual_backward(loss)
    module.clip_gradients(optimizer, 0.1, "norm")
    assert module.optimizers() is optimizer
    optimizer.step()
    assert [set(row) for row in rows.rows] == [{"loss"}, {"twice", "index"}] or [
        set(row) for row in rows.rows
    ] == [{"loss"}, {"twice"}, {"index"}]
    assert module.logger is rows
    assert module.all_gather(torch.ones(2)).shape[-1] == 2


def test_what_a_fabric_does_not_have_is_said_by_name() -> None:
    module = BoringModel()
    Fabric(accelerator="cpu", devices=1).setup(module)
    assert module.trainer.world_size == 1
    with pytest.raises(
        AttributeError, match=r"self\.trainer\.callback_metrics: this module runs in a Fabric"
    ):
        _ = module.trainer.callback_metrics
    assert not hasattr(module.trainer, "fit_loop")


# --- steps of every shape ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda self, batch: self.step(batch),
        lambda self, batch, batch_idx: self.step(batch),
        lambda self, *args: self.step(args[0]),
        lambda self, batch, batch_idx=0: {"loss": self.step(batch)},
        lambda self, batch, **kwargs: self.step(batch),
    ],
    ids=["batch", "batch_and_index", "any", "default", "keywords"],
)
def test_a_step_takes_what_it_wants(step: Any, trainer: Any) -> None:
    module = BoringModel()
    module.training_step = step.__get__(module)
    before = module.layer.weight.detach().clone()
    trainer(fast_dev_run=True).fit(module)
    assert not torch.equal(module.layer.weight, before)


def test_a_module_without_a_training_step_says_so(trainer: Any) -> None:
    class Stepless(Module):
        def configure_optimizers(self) -> Any:
            return None

    with pytest.raises(ConfigError, match="training_step"):
        trainer(fast_dev_run=True).fit(Stepless(), DataLoader(RandomDataset(32, 4)))


# --- torch.compile ----------------------------------------------------------------------------------------


def test_log_stays_out_of_compiled_graphs_and_is_not_traced(trainer: Any) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    class Compiled(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = self.step(batch)
            self.log("loss", loss)
            self.log(f"batch_{batch_idx}", 1.0, on_step=False, on_epoch=True)
            return loss * 1.0

    module = Compiled()
    module.training_step = torch.compile(module.training_step, backend=backend)
    run = trainer(max_epochs=1, limit_train_batches=12, limit_val_batches=0)
    run.fit(module)
    assert len(run.callback_metrics) == 13
    assert len(graphs) <= 8, "log was traced into or compiled anew for each name"


# --- exports ----------------------------------------------------------------------------------------------


class Shaped(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()
        self.example_input_array = torch.ones(3, 32)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.drop(self.layer(x)) * scale


def test_an_exported_program_runs_without_the_class_and_leaves_the_mode(tmp_path: Path) -> None:
    module = Shaped()
    module.to_torch_export(tmp_path / "m.pt2")
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert module.training
    assert torch.allclose(program(module.example_input_array), module.eval()(module.example_input_array))


def test_an_onnx_file_computes_the_same(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    module = Shaped()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.to_onnx(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    name = session.get_inputs()[0].name
    (answer,) = session.run(None, {name: module.example_input_array.numpy()})
    assert torch.allclose(torch.as_tensor(answer), module.eval()(module.example_input_array), atol=1e-5)


def test_an_export_without_an_example_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="set example_input_array"):
        BoringModel().to_torch_export()
    with pytest.raises(FabricError, match="Use to_torch_export"):
        BoringModel().to_torchscript()


@pytest.mark.parametrize(
    "name", ["current_epoch", "global_step", "global_rank", "local_rank", "logger", "loggers"]
)
def test_a_module_answers_as_its_trainer_does(name: str) -> None:
    from unittest.mock import Mock

    module, answer = BoringModel(), object()
    module.trainer = Mock(**{name: answer})
    assert getattr(module, name) is answer
