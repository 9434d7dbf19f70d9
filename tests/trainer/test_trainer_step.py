"""One batch: what training_step may return, closures, optimizers in the user's hands, compiled models."""

import shutil
import sys
import sysconfig
import traceback
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blixt.fabric import ConfigError
from blixt.trainer import Module, Trainer, TrainerOptimizer

from .samples import Classifier, make_loader


class Net(Module):
    """One layer, and whatever `returned` makes of its loss."""

    def __init__(self, returned: Any = None) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)
        self.returned = returned or (lambda loss: loss)
        self.outputs: list[Any] = []

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.returned(self.loss(batch))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_batch_takes_three_frames_in_two_files_to_training_step(trainer: Any) -> None:
    frames: list[str] = []

    class Look(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            frames[:] = [frame.filename for frame in traceback.extract_stack()]
            return self.loss(batch)

    trainer(max_epochs=1).fit(Look(), make_loader(4))
    names = [Path(name).name for name in frames if "blixt/trainer" in name]
    path = names[len(names) - 1 - names[::-1].index("fit.py") :]
    assert len(path) <= 3
    assert len(set(path)) <= 2


def calls_of_blixt_a_step(trainer: Any, logs: int) -> int:
    """How many of our functions run between one `training_step` and the next."""
    called: list[str] = []
    counts: list[int] = []

    class Look(Net):
        on_train_batch_end = Module.on_train_batch_end  # not overridden, as in a module without this hook

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            counts.append(len(called))
            for index in range(logs):
                self.log(f"loss{index}", 1.0)
            return self.loss(batch)

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and "blixt" in Path(frame.f_code.co_filename).parts:
            called.append(frame.f_code.co_qualname)

    run = trainer(max_epochs=1)
    sys.setprofile(note)
    try:
        run.fit(Look(), make_loader(20))
    finally:
        sys.setprofile(None)
    return counts[3] - counts[2]


def test_a_step_runs_a_handful_of_our_functions_and_two_more_for_each_log(trainer: Any) -> None:
    assert calls_of_blixt_a_step(trainer, logs=0) <= 6
    assert calls_of_blixt_a_step(trainer, logs=5) <= 6 + 2 * 5


def test_what_gathers_gradients_is_kept_from_step_to_step_and_no_longer(trainer: Any) -> None:
    gathered: list[int] = []
    losses: list[Any] = []

    class Look(Net):
        on_train_batch_end = Module.on_train_batch_end

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            if batch_idx == 0:  # its graph holds the node already, which is the same for all who ask
                node = self.layer.weight.view_as(self.layer.weight).grad_fn.next_functions[0][0]
                node.register_hook(lambda *_: gathered.append(1))
            losses.append(weakref.ref(loss))
            return loss

    trainer(max_epochs=1).fit(Look(), make_loader(12))
    assert len(gathered) == 3
    assert [loss() for loss in losses] == [None, None, None]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (lambda loss: "loss", "it is no loss"),
        (lambda loss: [loss], "it is no loss"),
        (lambda loss: {"value": loss}, "Add the key 'loss'"),
        (lambda loss: loss.repeat(2), "Return loss.mean"),
        (lambda loss: loss.detach(), "does not require a gradient"),
    ],
)
def test_what_is_no_loss_is_said_plainly(returned: Any, sentence: str, trainer: Any) -> None:
    with pytest.raises(ConfigError, match=sentence):
        trainer(max_epochs=1).fit(Net(returned), make_loader(4))


def test_the_batch_hook_sees_the_loss_divided_and_the_extras(trainer: Any) -> None:
    module = Net(lambda loss: {"loss": loss, "extra": 7})
    trainer(max_epochs=1, accumulate_grad_batches=2).fit(module, make_loader(8))
    assert [outputs["extra"] for outputs in module.outputs] == [7, 7]
    assert not module.outputs[0]["loss"].requires_grad


def test_none_skips_the_batch_and_leaves_the_weights(trainer: Any) -> None:
    module = Net(lambda loss: None)
    before = module.layer.weight.detach().clone()
    run = trainer(max_epochs=1)
    run.fit(module, make_loader(8))
    assert torch.equal(module.layer.weight, before)
    assert (module.outputs, run.global_step) == ([{}, {}], 2)


def test_weights_of_batches_make_the_mean_over_tokens(trainer: Any) -> None:
    whole, parts = Net(), Net()
    parts.load_state_dict(whole.state_dict())
    sizes = iter((2, 6))
    data = [tuple(column[:8] for column in make_loader(40, shuffle=False).dataset.tensors)]
    pieces = [tuple(column[slice(*cut)] for column in data[0]) for cut in ((0, 2), (2, 8))]

    parts.returned = lambda loss: {"loss": loss, "weight": next(sizes)}
    trainer(max_epochs=1).fit(whole, data)
    run = trainer(max_epochs=1, accumulate_grad_batches=2)
    run.fit(parts, pieces)
    assert torch.allclose(whole.layer.weight, parts.layer.weight, atol=1e-6)
    assert run.counters.tokens == 8


@pytest.mark.parametrize(
    "weight", [-1, float("nan"), float("inf"), torch.tensor(-2.0), torch.ones(2), None, "many"]
)
def test_a_weight_that_is_no_count_is_refused(weight: Any, trainer: Any) -> None:
    module = Net(lambda loss: {"loss": loss, "weight": weight})
    with pytest.raises(ConfigError, match=r"training_step\(weight=.*from 0 on.*Return e\.g\. the number"):
        trainer(max_epochs=1).fit(module, make_loader(4))


def test_an_optimizer_that_wants_a_closure_lowers_the_loss(trainer: Any) -> None:
    class Searching(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.5, line_search_fn="strong_wolfe")

    torch.manual_seed(0)
    module = Searching()
    trainer(max_epochs=3).fit(module, make_loader(40, shuffle=False))
    assert module.outputs[-1]["loss"] < module.outputs[0]["loss"]
    with pytest.raises(ConfigError, match="from one batch only"):
        trainer(accumulate_grad_batches=2).fit(Searching(), make_loader(8))


def test_an_own_optimizer_step_decides_when_to_step(trainer: Any) -> None:
    class Warm(Net):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
            assert isinstance(optimizer, (TrainerOptimizer, torch.optim.SGD))
            loss = optimizer_closure()
            optimizer.param_groups[0]["lr"] = 0.0 if loss is None else 0.01
            optimizer.step()

    run = trainer(max_epochs=1)
    run.fit(Warm(), make_loader(8))
    assert run.global_step == 2


def test_a_closure_that_nobody_calls_is_an_error(trainer: Any) -> None:
    class Idle(Net):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            pass

    with pytest.raises(ConfigError, match="Call optimizer_closure"):
        trainer(max_epochs=1).fit(Idle(), make_loader(4))


class TwoByHand(Net):
    """Two optimizers in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(8, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        first, second = self.optimizers()
        with first.toggle_model():
            assert self.layer.weight.requires_grad
            assert not self.other.weight.requires_grad
            self.manual_backward(self.loss(batch))
            first.step()
            first.zero_grad()
        loss = second.step(lambda: self.other(batch[0]).pow(2).mean())
        return {"seen": float(loss)}

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]


def test_manual_optimisation_counts_every_step_of_every_optimizer(trainer: Any) -> None:
    run = trainer(max_epochs=1)
    run.fit(TwoByHand(), make_loader(12))
    assert (run.global_step, run.counters.optimizer_steps) == (6, 3)
    handle = run.lightning_module.optimizers()[0]
    assert isinstance(handle, torch.optim.SGD)
    assert handle.optimizer is run.optimizers[0]
    assert handle.param_groups is run.optimizers[0].param_groups


@pytest.mark.parametrize("options", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_what_manual_optimisation_does_itself_is_not_asked_of_the_trainer(options: Any, trainer: Any) -> None:
    with pytest.raises(ConfigError, match="the optimizer is yours"):
        trainer(**options).fit(TwoByHand(), make_loader(4))


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (lambda o: {"optimiser": o}, "optimiser"),
        (lambda o: "sgd", "none of the forms"),
        (lambda o: {"optimizer": o, "lr_scheduler": {"scheduler": None, "intervall": "step"}}, "interval"),
        (lambda o: {"optimizer": o, "lr_scheduler": {"interval": "step"}}, "'scheduler' is missing"),
        (lambda o: ([o], [torch.optim.lr_scheduler.ReduceLROnPlateau(o)]), "a plateau is one of a metric"),
        (lambda o: ([o], [torch.optim.lr_scheduler.StepLR]), "it is a class"),
        (lambda o: [o, o], "Set automatic_optimization = False"),
    ],
)
def test_a_wrong_configuration_of_optimizers_is_named(returned: Any, sentence: str, trainer: Any) -> None:
    module = Net()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module.configure_optimizers = lambda: returned(optimizer)  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=sentence):
        trainer(max_epochs=1).fit(module, make_loader(4))


def test_a_scheduler_of_another_optimizer_is_refused(trainer: Any) -> None:
    class Lost(Net):
        def configure_optimizers(self) -> Any:
            other = torch.optim.SGD(self.parameters(), lr=0.1)
            return [super().configure_optimizers()], [torch.optim.lr_scheduler.StepLR(other, 1)]

    with pytest.raises(ConfigError, match="Return that optimizer too"):
        trainer(max_epochs=1).fit(Lost(), make_loader(4))


def test_the_number_of_steps_is_known_when_schedules_are_made(trainer: Any) -> None:
    class Planned(Net):
        steps: float = 0

        def configure_optimizers(self) -> Any:
            self.steps = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    module = Planned()
    trainer(max_epochs=3, accumulate_grad_batches=4).fit(module, make_loader(40))
    assert module.steps == 9


def test_anomalies_are_found_where_they_arise(trainer: Any) -> None:
    module = Net(lambda loss: (loss * 0.0).sqrt() * 0.0)
    found = pytest.warns(UserWarning, match="Traceback of forward call")
    with pytest.raises(RuntimeError, match="returned nan values"), found:
        trainer(max_epochs=1, detect_anomaly=True).fit(module, make_loader(4))


class Deep(Classifier):
    """Several blocks of one kind, and a log in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3)), nn.Linear(8, 2)
        )


@pytest.mark.parametrize(
    "how", [{"backend": "eager"}, {"backend": "eager", "blocks": True}], ids=["whole", "blocks"]
)
def test_a_compiled_model_trains_to_the_same_weights_under_the_same_names(how: Any, trainer: Any) -> None:
    # torch imports its compiler: about 4 s.
    plain, compiled = Deep(), Deep()
    compiled.load_state_dict(plain.state_dict())
    for module, options in ((plain, {}), (compiled, {"compile": how})):
        trainer(max_epochs=1, **options).fit(module, make_loader(shuffle=False))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    pairs = zip(plain.parameters(), compiled.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert "loss" in compiled.trainer.callback_metrics


class Curved(Net):
    """The smallest model of which the compiler has something to fuse."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.layer(x)) * 2

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


COMPILER = shutil.which("g++") and Path(sysconfig.get_path("include"), "Python.h").exists()


@pytest.mark.skipif(not COMPILER, reason="torch's compiler for CPUs needs g++ and Python's header files")
def test_torchs_own_compiler_makes_a_model_that_trains_alike(trainer: Any) -> None:
    from torch._dynamo.utils import counters

    plain, compiled = Curved(), Curved()
    compiled.load_state_dict(plain.state_dict())
    counters.clear()
    for module, options in ((plain, {}), (compiled, {"compile": True})):
        trainer(max_epochs=1, **options).fit(module, make_loader(12, shuffle=False))
    pairs = zip(plain.parameters(), compiled.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["inductor"]


def test_compiling_blocks_needs_blocks(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="Use compile=True"):
        trainer(compile="blocks").fit(Net(), make_loader(4))


def test_ctrl_c_tells_everybody_and_exits_with_code_one(trainer: Any) -> None:
    module = Net()
    module.training_step = _interrupt  # type: ignore[method-assign, assignment]
    run: Trainer = trainer(max_epochs=1)
    with pytest.raises(SystemExit) as left:
        run.fit(module, make_loader(4))
    assert left.value.code == 1
    assert run.interrupted
    assert run.state.stage is None


def _interrupt(batch: Any, batch_idx: int) -> Any:
    raise KeyboardInterrupt


def test_a_step_may_draw_its_batches_itself(trainer: Any) -> None:
    class Drawing(Net):
        def training_step(self, dataloader_iter: Any) -> Any:
            batch, _, _ = next(dataloader_iter)
            return self.loss(batch)

    run = trainer(max_epochs=2)
    run.fit(Drawing(), make_loader(12))
    assert (run.global_step, run.current_epoch) == (6, 2)
