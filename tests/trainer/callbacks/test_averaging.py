"""Averages of weights: what is validated, saved, resumed and left behind."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks as theirs
from tests.trainer import lightning_pair as pair
from tests.trainer.samples import Classifier, make_loader
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from blixt.fabric import ConfigError
from blixt.trainer import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
    Module,
    StochasticWeightAveraging,
    WeightAveraging,
)


class Normed(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


class Trace(Callback):
    """The weights after each step, and those that validation saw."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(pair.weights(module))

    def on_validation_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(pair.weights(module))


def test_validation_sees_the_mean_and_training_goes_on_without_it(trainer: Any) -> None:
    trace, module = Trace(), Classifier()
    trainer(max_epochs=2, callbacks=[WeightAveraging(), trace]).fit(module, make_loader(), make_loader(4))
    for epoch in (1, 2):
        mean = torch.stack(trace.steps[: 10 * epoch]).mean(0)
        torch.testing.assert_close(trace.validated[epoch - 1], mean)
    torch.testing.assert_close(pair.weights(module), torch.stack(trace.steps).mean(0))


def test_averages_do_not_change_how_training_goes(trainer: Any) -> None:
    traces = [Trace(), Trace()]
    for trace, extra in zip(traces, ([], [EMAWeightAveraging(decay=0.5)]), strict=True):
        torch.manual_seed(3)
        trainer(max_epochs=2, callbacks=[*extra, trace]).fit(Classifier(0.0), make_loader(), make_loader(4))
    assert all(torch.equal(a, b) for a, b in zip(traces[0].steps, traces[1].steps, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"decay": 0.9},
        {"decay": 0.8, "update_every_n_steps": 3},
        {"decay": 0.7, "update_starting_at_step": 7},
        {"decay": 0.6, "update_every_n_steps": 0, "update_starting_at_epoch": 1},
    ],
)
def test_the_moving_average_is_bitwise_that_of_lightning(tmp_path: Path, options: Any) -> None:
    from blixt.trainer import Trainer

    results: list[torch.Tensor] = []
    for trainer_class, base, callback in (
        (pl.Trainer, pl.LightningModule, theirs.EMAWeightAveraging(**options)),
        (Trainer, Module, EMAWeightAveraging(**options)),
    ):
        module = pair.model_of(base)
        run = trainer_class(**pair.options(tmp_path, callbacks=[callback]))
        run.fit(module, pair.make_loader(), pair.make_loader(4))
        results.append(pair.weights(module))
    assert torch.equal(results[0], results[1])


def test_functions_over_all_weights_at_once_work_too(trainer: Any) -> None:
    results: list[torch.Tensor] = []
    for callback in (
        EMAWeightAveraging(decay=0.9),
        WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(0.9), device="cpu"),
    ):
        torch.manual_seed(3)
        module = Normed()
        trainer(max_epochs=1, callbacks=[callback]).fit(module, make_loader())
        results.append(pair.weights(module))
    torch.testing.assert_close(results[0], results[1])


def test_a_checkpoint_holds_the_average_and_resumes_from_the_weights(trainer: Any, tmp_path: Path) -> None:
    def run(epochs: int, path: str | None = None, seed: int = 3) -> Module:
        torch.manual_seed(seed)
        module, saver = Normed(), ModelCheckpoint(tmp_path / str(epochs), "{epoch}", save_top_k=-1)
        made = trainer(
            enable_checkpointing=True, max_epochs=epochs, callbacks=[EMAWeightAveraging(decay=0.9), saver]
        )
        made.fit(module, make_loader(), make_loader(4), ckpt_path=path)
        return module

    whole = run(3)
    content = torch.load(str(tmp_path / "3" / "epoch=1.ckpt"))
    assert int(content["averaging_state"]["n_averaged"]) == 20
    assert not torch.equal(
        content["state_dict"]["net.0.weight"], content["current_model_state"]["net.0.weight"]
    )
    resumed = run(3, str(tmp_path / "3" / "epoch=1.ckpt"), seed=9)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_failing_validation_leaves_the_weights_to_training(trainer: Any) -> None:
    class Fails(Classifier):
        def on_validation_epoch_end(self) -> None:
            if not self.trainer.sanity_checking:
                raise ValueError("no more")

    trace, module = Trace(), Fails()
    with pytest.raises(ValueError, match="no more"):
        trainer(max_epochs=1, callbacks=[EMAWeightAveraging(decay=0.1), trace]).fit(
            module, make_loader(), make_loader(4)
        )
    assert torch.equal(pair.weights(module), trace.steps[-1])


def test_averaging_functions_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="Give one of them"):
        WeightAveraging(avg_fn=lambda a, b, n: a, multi_avg_fn=lambda a, b, n: None)
    with pytest.raises(ConfigError, match="it is a share"):
        EMAWeightAveraging(decay=2.0)


# --- stochastic weight averaging ------------------------------------------------------------------


class EpochEnds(Callback):
    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.weights.append(pair.weights(module))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_result_is_the_mean_from_the_first_averaged_epoch_on(trainer: Any) -> None:
    ends, module = EpochEnds(), Classifier()
    averaging = StochasticWeightAveraging(0.01, swa_epoch_start=0.5, annealing_epochs=2)
    trainer(max_epochs=4, callbacks=[averaging, ends]).fit(module, make_loader())
    assert averaging.swa_start == 1
    assert int(averaging.n_averaged) == 4
    torch.testing.assert_close(pair.weights(module), torch.stack(ends.weights).mean(0))
    assert ends.rates[-1] == pytest.approx(0.01)


def test_batch_norms_get_the_statistics_of_the_averaged_weights(trainer: Any) -> None:
    module = Normed()
    trainer(max_epochs=3, callbacks=[StochasticWeightAveraging(0.05, 1)]).fit(
        module, make_loader(shuffle=False)
    )
    norm, momentum = module.net[1], module.net[1].momentum
    assert isinstance(norm, nn.BatchNorm1d)
    inputs = torch.stack([module.net[0](batch[0]).mean(0) for batch in make_loader(shuffle=False)]).mean(0)
    torch.testing.assert_close(norm.running_mean, inputs)
    assert momentum == 0.1


def test_a_resumed_run_ends_with_bitwise_the_same_average(trainer: Any, tmp_path: Path) -> None:
    def run(seed: int, path: Any = None) -> Module:
        torch.manual_seed(seed)
        module, saver = Normed(), ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
        made = trainer(
            enable_checkpointing=True,
            max_epochs=5,
            callbacks=[StochasticWeightAveraging([0.02], 2, annealing_epochs=3), saver],
        )
        made.fit(module, make_loader(), ckpt_path=path)
        return module

    whole, resumed = run(3), run(9, tmp_path / "epoch=2.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"swa_lrs": -1.0}, "a learning rate is positive"),
        ({"swa_lrs": []}, "a learning rate is positive"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 0}, "Use e.g. 0.8"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 1.5}, "Use e.g. 0.8"),
        ({"swa_lrs": 0.1, "annealing_epochs": -1}, "Use 0 or more"),
        ({"swa_lrs": 0.1, "annealing_strategy": "steps"}, "Use 'cos' or 'linear'"),
    ],
)
def test_swa_arguments_that_cannot_work_are_named_with_a_fix(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        StochasticWeightAveraging(**options)


def test_swa_wants_one_rate_a_group_and_a_last_epoch(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="Give one rate for each"):
        trainer(max_epochs=1, callbacks=[StochasticWeightAveraging([0.1, 0.2], 1)]).fit(
            Classifier(), make_loader()
        )
    with pytest.raises(ConfigError, match="Give a number of epochs"):
        trainer(max_epochs=-1, max_steps=3, callbacks=[StochasticWeightAveraging(0.1)]).fit(
            Classifier(), make_loader()
        )
