"""Range tests of learning rates, searches for batch sizes, and that both leave no trace."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.tuner import Tuner as TheirTuner
from tests.trainer import lightning_pair as pair
from tests.trainer.samples import Classifier, make_data, make_loader
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError, FabricError
from blixt.trainer import (
    BatchSizeFinder,
    Callback,
    DataModule,
    LearningRateFinder,
    LRFinder,
    Module,
    Trainer,
    Tuner,
)
from blixt.trainer.tuner_batch import binary_search, is_memory_error, power_search
from blixt.trainer.tuner_lr import rate_at


class Tunable(Classifier):
    """Needs more memory than there is for batches of more than 20 rows: really asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.02
        self.batch_size = 4
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append("setup")

    def train_dataloader(self) -> Any:
        return DataLoader(make_data(200), self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(make_data(200), self.batch_size)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        _use_memory(batch)
        return super().training_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        _use_memory(batch)
        return self(batch[0])

    def predict_dataloader(self) -> Any:
        return self.val_dataloader()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def _use_memory(batch: Any) -> None:
    if len(batch[0]) > 20:
        torch.empty(10**15)


# --- learning rates -------------------------------------------------------------------------------


def test_the_rates_are_those_of_lightning_and_the_losses_too_but_for_its_correction(tmp_path: Path) -> None:
    results: list[dict[str, list[float]]] = []
    for trainer_class, base, tuner_class in (
        (pl.Trainer, pl.LightningModule, TheirTuner),
        (Trainer, Module, Tuner),
    ):
        module = pair.model_of(base)
        # Lightning would stop at max_epochs, whatever num_training says.
        tuner = tuner_class(trainer_class(**pair.options(tmp_path, max_epochs=20)))
        options: dict[str, Any] = {"num_training": 25, "min_lr": 1e-4, "early_stop_threshold": None}
        finder = tuner.lr_find(module, pair.make_loader(), attr_name="rate", **options)
        results.append(finder.results)
    theirs, ours = results
    assert ours["lr"] == pytest.approx(theirs["lr"])
    # The bias of a running mean over n values is 1 - beta**n; Lightning divides by that of n + 1.
    corrected = [
        loss * (1 - 0.98 ** (n + 1)) / (1 - 0.98**n) for n, loss in enumerate(theirs["loss"], start=1)
    ]
    assert ours["loss"] == pytest.approx(corrected, rel=1e-5)


def test_a_range_test_leaves_no_trace_but_the_suggestion(trainer: Any) -> None:
    made, module = trainer(max_epochs=1, callbacks=[Callback()]), Tunable()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    callbacks, config, randomness = list(made.callbacks), vars(made.config).copy(), torch.get_rng_state()
    finder = Tuner(made).lr_find(module, num_training=30)
    assert finder is not None
    assert module.lr == finder.suggestion() != 0.02
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert (made.callbacks, vars(made.config)) == (callbacks, config)
    assert torch.equal(torch.get_rng_state(), randomness)
    assert (made.global_step, made.current_epoch) == (0, 0)
    made.fit(module)
    assert made.global_step == 50


def test_more_steps_than_an_epoch_has_and_accumulated_batches_make_one_rate_a_step(trainer: Any) -> None:
    finder = Tuner(trainer(max_epochs=1, accumulate_grad_batches=2)).lr_find(
        Tunable(), make_loader(40), num_training=12, early_stop_threshold=None
    )
    assert finder is not None
    assert len(finder.results["lr"]) == len(finder.results["loss"]) == 12


def test_an_exploding_loss_ends_the_test_early(trainer: Any) -> None:
    class Explodes(Tunable):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) * (1 if self.global_step < 10 else 1e6)

    finder = Tuner(trainer()).lr_find(Explodes(), num_training=50)
    assert finder is not None
    assert len(finder.results["loss"]) == 11


def test_the_suggestion_is_where_the_loss_falls_most_steeply() -> None:
    finder = LRFinder("linear", 0.0, 1.0, 10)
    finder.results = {"lr": [i / 10 for i in range(10)], "loss": [9, 9, 9, 8, 5, 2, 1, math.nan, 1, 1]}
    assert finder.suggestion(skip_begin=0) == pytest.approx(0.4)
    assert finder.suggestion(skip_begin=8) is None


@pytest.mark.parametrize("mode", ["exponential", "linear"])
@settings(deadline=None, max_examples=50)
@given(low=st.floats(1e-8, 1e-2), factor=st.floats(2.0, 1e6), steps=st.integers(2, 200))
def test_rates_grow_from_the_lowest_to_the_highest(mode: Any, low: float, factor: float, steps: int) -> None:
    rates = [rate_at(step, low, low * factor, steps, mode) for step in range(steps)]
    assert rates[0] == low
    assert rates[-1] == pytest.approx(low * factor)
    assert all(a < b for a, b in pairwise(rates))


def test_a_plot_shows_losses_and_marks_the_suggestion() -> None:
    plots = pytest.importorskip("matplotlib.pyplot", reason="matplotlib draws the plot")
    finder = LRFinder("exponential", 1e-4, 1.0, 20)
    finder.results = {"lr": [10**-4 * 1.5**i for i in range(20)], "loss": [20.0 - i for i in range(20)]}
    _, axes = plots.subplots()
    assert finder.plot(suggest=True, ax=axes) is axes.figure
    assert len(axes.lines) == 2
    assert axes.get_xscale() == "log"


def test_the_callback_searches_in_the_fit_and_goes_on_with_what_it_found(trainer: Any) -> None:
    module, finder = Tunable(), LearningRateFinder(num_training_steps=30)
    made = trainer(max_epochs=1, limit_train_batches=3, callbacks=[finder])
    made.fit(module)
    assert finder.optimal_lr is not None
    assert module.lr == finder.optimal_lr.suggestion() == made.optimizers[0].param_groups[0]["lr"]
    assert module.calls == ["prepare_data", "setup"]  # not once more for the search
    assert module.trainer is made
    assert made.global_step == 3


def test_a_fit_with_a_search_before_it_is_bitwise_the_same_as_without(trainer: Any) -> None:
    results: list[torch.Tensor] = []
    for callbacks in ([LearningRateFinder(num_training_steps=12, update_attr=False)], []):
        torch.manual_seed(3)
        module = Classifier()
        trainer(max_epochs=2, callbacks=callbacks).fit(module, make_loader(), make_loader(8))
        results.append(pair.weights(module))
    assert torch.equal(results[0], results[1])


def test_the_rate_may_live_in_hparams_under_a_name_of_its_own(trainer: Any) -> None:
    class Nested(Classifier):
        def __init__(self, speed: float = 0.5) -> None:
            super().__init__()
            self.save_hyperparameters()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.speed)

    module = Nested()
    finder = Tuner(trainer()).lr_find(module, make_loader(), num_training=20, attr_name="speed")
    assert finder is not None
    assert module.hparams.speed == finder.suggestion()
    with pytest.raises(ConfigError, match="Name the attribute"):
        Tuner(trainer()).lr_find(pair.model_of(Module), pair.make_loader(), num_training=20)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"min_lr": 1.0, "max_lr": 0.1}, "less than max_lr"),
        ({"num_training": 0}, "it counts steps"),
        ({"mode": "square"}, "Use 'exponential' or 'linear'"),
        ({"method": "test"}, "only training has a learning rate"),
        ({"dataloaders": []}, "Give train_dataloaders"),
    ],
)
def test_arguments_of_lr_find_that_cannot_work_are_named_with_a_fix(
    trainer: Any, options: Any, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Tuner(trainer()).lr_find(Tunable(), **options)


def test_several_optimizers_are_refused(trainer: Any) -> None:
    class Two(Tunable):
        automatic_optimization = False

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[i].parameters(), lr=0.1) for i in (0, 3)]

    with pytest.raises(ConfigError, match="2 optimizers"):
        Tuner(trainer()).lr_find(Two(), num_training=20)


def test_a_dry_run_tunes_nothing(trainer: Any) -> None:
    tuner = Tuner(trainer(fast_dev_run=True))
    assert tuner.lr_find(Tunable()) is None
    assert tuner.scale_batch_size(Tunable()) is None


# --- batch sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"mode": "power"}, 16),
        ({"mode": "binsearch", "margin": 0.0}, 20),
        ({"mode": "binsearch", "margin": 0.25}, 15),
        ({"mode": "power", "init_val": 100}, 12),
        ({"mode": "power", "max_trials": 2}, 4),
        ({"mode": "power", "max_val": 10}, 10),
    ],
)
def test_the_largest_size_that_fits_is_found_and_set(trainer: Any, options: Any, size: int) -> None:
    module = Tunable()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert Tuner(trainer()).scale_batch_size(module, **options) == size == module.batch_size
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_size_beyond_the_dataset_is_not_looked_for(trainer: Any) -> None:
    class Small(Tunable):
        def train_dataloader(self) -> Any:
            return DataLoader(make_data(10), self.batch_size)

    assert Tuner(trainer()).scale_batch_size(Small()) == 16


def test_a_data_module_and_the_other_stages_are_searched_alike(trainer: Any) -> None:
    class Data(DataModule):
        def __init__(self, batch_size: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()

        def predict_dataloader(self) -> Any:
            return DataLoader(make_data(100), self.hparams.batch_size)

    class Plain(Tunable):
        def __init__(self) -> None:
            super().__init__()
            del self.batch_size

    data = Data()
    assert Tuner(trainer()).scale_batch_size(Plain(), datamodule=data, method="predict") == 16
    assert data.hparams.batch_size == 16


def test_the_callback_searches_before_the_loaders_of_the_stage_are_made(trainer: Any) -> None:
    finder, module = BatchSizeFinder(mode="binsearch", margin=0.0), Tunable()
    made = trainer(max_epochs=1, callbacks=[finder])
    made.fit(module)
    assert finder.optimal_batch_size == module.batch_size == 20
    assert made.global_step == 10
    assert module.calls == ["prepare_data", "setup"]


def test_the_callback_searches_before_predictions_too(trainer: Any) -> None:
    finder, module = BatchSizeFinder(), Tunable()
    predictions = trainer(callbacks=[finder]).predict(module)
    assert finder.optimal_batch_size == 16
    assert [len(batch) for batch in predictions] == [16] * 12 + [8]


def test_nothing_fits_is_said_plainly_and_other_errors_come_through(trainer: Any) -> None:
    class Huge(Tunable):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return torch.empty(10**15)

    class Fails(Tunable):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise ValueError("no more")

    module = Huge()
    with pytest.raises(FabricError, match="Not even a batch size of 1"):
        Tuner(trainer()).scale_batch_size(module)
    assert module.batch_size == 4
    with pytest.raises(ValueError, match="no more"):
        Tuner(trainer()).scale_batch_size(Fails())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "cube"}, "Use 'power' or 'binsearch'"),
        ({"margin": 1.0}, "it is a part of the size"),
        ({"init_val": 0}, "it counts from 1"),
        ({"batch_arg_name": "rows"}, "Name what loaders read"),
        ({"train_dataloaders": make_loader()}, "a loader has one batch size for good"),
    ],
)
def test_arguments_of_scale_batch_size_that_cannot_work_are_named(
    trainer: Any, options: Any, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Tuner(trainer()).scale_batch_size(Tunable(), **options)


@settings(deadline=None, max_examples=50)
@given(capacity=st.integers(0, 300), start=st.integers(1, 64), highest=st.integers(1, 256))
def test_searches_end_with_the_largest_size_they_can_know(capacity: int, start: int, highest: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        assert 1 <= size <= highest
        tried.append(size)
        return size <= capacity

    for search in (power_search, binary_search):
        tried.clear()
        found = search(fits, start, 100, highest)
        assert found == max((size for size in tried if size <= capacity), default=0)
        assert len(tried) == len(set(tried)) or search is power_search
    assert found == min(capacity, highest)  # the binary search is exact


def test_only_errors_of_memory_count_as_such() -> None:
    assert is_memory_error(MemoryError())
    assert is_memory_error(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_memory_error(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_memory_error(caught.value)
