"""Which data a stage runs on, how much of it, and that its end is known."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from blixt.fabric import ConfigError
from blixt.trainer import Callback, DataModule, Module, Trainer, seed_everything


class Counting(Module):
    """Remembers batches, and at which of them the trainer knew the last."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[Any] = []
        self.last: list[bool] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.tolist() if isinstance(batch, torch.Tensor) else batch)
        self.last.append(self.trainer.is_last_batch)
        value = batch.float().mean() if isinstance(batch, torch.Tensor) else torch.tensor(1.0)
        return (self.layer(torch.rand(1, 1)) * value).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch.tolist())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Stream(IterableDataset[Any]):
    """Data without a length, drawn with random numbers of this process."""

    def __init__(self, rows: int = 10) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        for row in range(self.rows):
            yield torch.tensor(row + random.random() + float(torch.rand(())))


def test_the_last_batch_of_data_without_a_length_is_known_while_it_runs(trainer: Any) -> None:
    module = Counting()
    trainer(max_epochs=2).fit(module, DataLoader(Stream(6), 2))
    assert module.last == [False, False, True] * 2


def test_an_open_window_of_accumulation_ends_with_data_without_a_length(trainer: Any) -> None:
    run = trainer(max_epochs=1, accumulate_grad_batches=2)
    run.fit(Counting(), DataLoader(Stream(6), 2))
    assert run.global_step == 2


def test_a_limit_beyond_the_end_of_such_data_does_no_harm(trainer: Any) -> None:
    module = Counting()
    run = trainer(max_epochs=1, accumulate_grad_batches=2, limit_train_batches=9)
    run.fit(module, DataLoader(Stream(6), 2))
    assert (len(module.seen), run.global_step, module.last[-1]) == (3, 2, True)


def test_a_limit_within_such_data_fetches_no_batch_too_many(trainer: Any) -> None:
    drawn: list[int] = []

    class Watched:
        def __iter__(self) -> Iterator[Any]:
            for row in range(10):
                drawn.append(row)
                yield torch.tensor([row])

    trainer(max_epochs=1, limit_train_batches=3).fit(Counting(), Watched())
    assert drawn == [0, 1, 2]


class SaveAll(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        if not at_epoch_end:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_that_draw_random_numbers_go_on_exactly_though_fetched_ahead(
    workers: int, trainer: Any, tmp_path: Path
) -> None:
    def data() -> DataLoader[Any]:
        return DataLoader(Stream(), 2, num_workers=workers)

    seed_everything(1)
    whole = Counting()
    trainer(max_epochs=2, callbacks=[SaveAll(tmp_path)]).fit(whole, data())
    steps = range(1, 11) if workers == 0 else (3, 5, 8)
    for step in steps:
        again = Counting()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "DataLoader cannot tell its position")
            trainer(max_epochs=2).fit(again, data(), ckpt_path=tmp_path / f"{step}.ckpt")
        assert again.seen == whole.seen[step:], step
        assert torch.equal(again.layer.weight, whole.layer.weight)


def test_a_shuffled_validation_goes_on_with_its_order(trainer: Any, tmp_path: Path) -> None:
    def loaders() -> Any:
        return DataLoader(torch.arange(8.0), 2), DataLoader(torch.arange(8.0), 2, shuffle=True)

    seed_everything(1)
    whole = Counting()
    trainer(max_epochs=3, callbacks=[SaveAll(tmp_path)]).fit(whole, *loaders())
    seed_everything(2)
    again = Counting()
    trainer(max_epochs=3).fit(again, *loaders(), ckpt_path=tmp_path / "6.ckpt")
    assert again.seen == whole.seen[-len(again.seen) :]


def test_overfitting_turns_the_shuffle_off_and_says_so(trainer: Any) -> None:
    module = Counting()
    with pytest.warns(UserWarning, match="shuffling of the train data"):
        trainer(max_epochs=2, overfit_batches=2).fit(module, DataLoader(torch.arange(8), 2, shuffle=True))
    assert module.seen == [[0, 1], [2, 3]] * 2


def test_loaders_are_asked_for_again_when_that_is_wanted_also_after_a_resume(
    trainer: Any, tmp_path: Path
) -> None:
    class Data(DataModule):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[int] = []

        def train_dataloader(self) -> Any:
            self.asked.append(self.trainer.current_epoch)
            return DataLoader(torch.arange(4), 2, shuffle=True)

    def run(epochs: int, ckpt: Path | None = None) -> tuple[Data, Counting]:
        data, module = Data(), Counting()
        each = trainer(max_epochs=epochs, reload_dataloaders_every_n_epochs=2, callbacks=[SaveAll(tmp_path)])
        each.fit(module, datamodule=data, ckpt_path=ckpt)
        return data, module

    seed_everything(4)
    whole, recorded = run(6)
    assert whole.asked == [0, 2, 4]
    seed_everything(5)
    again, rest = run(6, tmp_path / "7.ckpt")
    assert again.asked[1:] == [4]
    assert rest.seen == recorded.seen[7:]


def test_a_generator_is_warned_of_because_it_gives_its_batches_once(trainer: Any) -> None:
    with pytest.warns(UserWarning, match="gives its batches once"):
        trainer(max_epochs=1).fit(Counting(), (torch.tensor([row]) for row in range(3)))


@pytest.mark.parametrize(
    ("options", "data", "error"),
    [
        ({}, 3, "of type int gives no batches"),
        ({}, "cifar", "of type str gives no batches"),
        ({"limit_train_batches": 0.5}, DataLoader(Stream()), "a part of a loader without a length"),
        ({"limit_train_batches": 0.1}, DataLoader(torch.arange(4), 2), "part of 2 batches is less than one"),
    ],
)
def test_what_cannot_be_run_on_is_named(options: Any, data: Any, error: str, trainer: Any) -> None:
    with pytest.raises(ConfigError, match=error):
        trainer(max_epochs=1, **options).fit(Counting(), data)


def test_empty_data_is_told_with_the_reason(trainer: Any) -> None:
    empty = DataLoader(torch.arange(3), 4, drop_last=True)
    module = Counting()
    with pytest.warns(UserWarning, match="has no batch: with drop_last=True"):
        trainer(max_epochs=1).fit(module, empty)
    assert module.seen == []


def test_a_stream_that_yields_nothing_ends_a_fit_that_counts_steps(trainer: Any) -> None:
    class Nothing(torch.utils.data.IterableDataset[torch.Tensor]):
        def __iter__(self) -> Any:
            return iter(())

    module = Counting()
    with pytest.warns(UserWarning, match="gave no batch in epoch 0, so that max_steps=3"):
        trainer(max_steps=3).fit(module, DataLoader(Nothing()))
    assert module.seen == []


def test_workers_end_with_the_fit_also_when_it_fails(trainer: Any) -> None:
    import multiprocessing

    class Failing(Counting):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise ValueError("a mistake of the user")

    data = DataLoader(torch.arange(40), 2, num_workers=1, persistent_workers=True)
    before = set(multiprocessing.active_children())
    with pytest.raises(ValueError, match="a mistake"):
        trainer(max_epochs=1).fit(Failing(), data)
    assert set(multiprocessing.active_children()) <= before


def test_transfer_hooks_of_the_data_module_win_and_the_doubt_is_told(trainer: Any) -> None:
    class Data(DataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(torch.arange(2), 2)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch + 10

    class Model(Counting):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch - 10

    module = Model()
    with pytest.warns(UserWarning, match="the data module's is used"):
        trainer(max_epochs=1).fit(module, datamodule=Data())
    assert module.seen == [[10, 11]]


class Drawing(Counting):
    """Draws its batches itself, two a step unless there is only one."""

    def __init__(self, draws: int = 2) -> None:
        super().__init__()
        self.draws = draws

    def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]
        loss = torch.zeros(())
        for _ in range(self.draws):
            if dataloader_iter.done:
                break
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            self.seen.append((batch.tolist(), batch_idx, dataloader_idx))
            loss = loss + (self.layer(torch.rand(1, 1)) * batch.float().mean()).sum()
        return loss


@pytest.mark.parametrize("data", [torch.arange(10.0), Stream(10)])
def test_a_step_may_draw_its_batches_itself(data: Any, trainer: Any) -> None:
    module = Drawing()
    run = trainer(max_epochs=2)
    run.fit(module, DataLoader(data, 2))
    assert [index for _, index, _ in module.seen] == [0, 1, 2, 3, 4] * 2
    assert (run.global_step, run.current_epoch) == (6, 2)


def test_hooks_around_a_step_that_draws_see_what_was_drawn_last(trainer: Any) -> None:
    class Hooked(Drawing):
        def __init__(self) -> None:
            super().__init__()
            self.hooked: list[Any] = []

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.hooked.append(("start", None if batch is None else batch.tolist(), batch_idx))

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.hooked.append(("end", batch.tolist(), batch_idx))

    module = Hooked()
    trainer(max_epochs=1).fit(module, DataLoader(torch.arange(8), 2))
    assert module.hooked == [("start", None, 0), ("end", [2, 3], 1), ("start", [2, 3], 1), ("end", [6, 7], 3)]


def test_what_a_step_drew_is_not_drawn_again_after_a_resume(trainer: Any, tmp_path: Path) -> None:
    def data() -> DataLoader[Any]:
        return DataLoader(torch.arange(14.0), 2, shuffle=True)

    seed_everything(1)
    whole = Drawing()
    trainer(max_epochs=2, callbacks=[SaveAll(tmp_path)]).fit(whole, data())
    for step, drawn in ((1, 2), (3, 6), (4, 7), (6, 11)):
        again = Drawing()
        trainer(max_epochs=2).fit(again, data(), ckpt_path=tmp_path / f"{step}.ckpt")
        assert again.seen == whole.seen[drawn:], step
        assert torch.equal(again.layer.weight, whole.layer.weight)


def test_a_step_that_draws_beyond_the_end_ends_the_epoch(trainer: Any) -> None:
    class Greedy(Drawing):
        def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]
            batch, *_ = next(dataloader_iter)
            next(dataloader_iter)
            self.seen.append(batch.tolist())
            return self.layer(torch.ones(1, 1)).sum()

    module = Greedy()
    trainer(max_epochs=1).fit(module, DataLoader(torch.arange(6), 2))
    assert module.seen == [[0, 1]]
