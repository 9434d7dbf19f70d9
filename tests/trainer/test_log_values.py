"""What `self.log` takes: values, batch sizes, metric objects; and who reads it."""

from typing import Any

import pytest
import torch
import torchmetrics
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError
from blixt.trainer import Trainer

from .samples import Classifier, make_loader


def loss_of(module: Any, batch: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(module(batch[0]), batch[1])


# --- values ---------------------------------------------------------------------------------------


class Talking(Classifier):
    """Calls `say(self, batch_idx)` in every training step."""

    def __init__(self, say: Any) -> None:
        super().__init__()
        self.say = say

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.say(self, batch_idx)
        return loss_of(self, batch)


def heard(trainer: Any, say: Any, **options: Any) -> Any:
    run = trainer(**{"max_epochs": 1, **options})
    run.fit(Talking(say), make_loader())
    return run


def test_what_happens_to_a_tensor_after_it_was_logged_does_not_count(trainer: Any) -> None:
    def say(module: Any, index: int) -> None:
        value = torch.tensor(float(index))
        module.log("n", value, on_step=False, on_epoch=True)
        value += 100

    assert float(heard(trainer, say).callback_metrics["n"]) == 4.5


def test_a_graph_is_kept_only_when_asked_for(trainer: Any) -> None:
    seen: list[bool] = []

    def say(module: Any, index: int) -> None:
        value = next(module.parameters()).sum()
        module.log("with", value, enable_graph=True, on_epoch=True, on_step=True)
        module.log("without", value)
        metrics = module.trainer.callback_metrics
        seen.extend([metrics["with_step"].requires_grad, metrics["without"].requires_grad])

    run = heard(trainer, say)
    assert set(seen[::2]) == {True}
    assert set(seen[1::2]) == {False}
    assert not run.callback_metrics["with_epoch"].requires_grad


def test_tensors_that_wait_on_their_device_give_the_same_as_numbers(trainer: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(300, generator=generator, dtype=torch.float64)

    def say(module: Any, index: int) -> None:
        for position in range(30):
            value = values[30 * index + position]
            for kind in ("mean", "sum", "min", "max"):
                options = {"on_step": False, "on_epoch": True, "reduce_fx": kind, "batch_size": position + 1}
                module.log(f"{kind}_kept", value, enable_graph=True, **options)
                module.log(f"{kind}_read", value, **options)

    metrics = heard(trainer, say).callback_metrics
    for kind in ("mean", "sum", "min", "max"):
        assert float(metrics[f"{kind}_kept"]) == pytest.approx(float(metrics[f"{kind}_read"]), rel=1e-6)


def test_weights_may_be_tensors_such_as_counts_of_tokens(trainer: Any) -> None:
    def say(module: Any, index: int) -> None:
        module.log("n", float(index), on_step=False, on_epoch=True, batch_size=torch.tensor(index))

    expected = sum(i * i for i in range(10)) / sum(range(10))
    assert float(heard(trainer, say).callback_metrics["n"]) == pytest.approx(expected)


def test_nan_does_not_hide_behind_smaller_and_larger_values(trainer: Any) -> None:
    def say(module: Any, index: int) -> None:
        value = float("nan") if index == 3 else float(index)
        for kind in ("min", "max", "mean"):
            module.log(kind, value, on_step=False, on_epoch=True, reduce_fx=kind)

    metrics = heard(trainer, say).callback_metrics
    assert all(bool(torch.isnan(metrics[kind])) for kind in ("min", "max", "mean"))


def test_numbers_of_numpy_and_bools_are_numbers(trainer: Any) -> None:
    import numpy as np

    def say(module: Any, index: int) -> None:
        module.log("numpy", np.float32(0.5))
        module.log("truth", index % 2 == 0, on_step=False, on_epoch=True)

    metrics = heard(trainer, say).callback_metrics
    assert (float(metrics["numpy"]), float(metrics["truth"])) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (lambda m: m.log("x", {"a": 1.0}), "Use log_dict"),
        (lambda m: m.log("x", torch.tensor(1j)), "the value is complex"),
        (lambda m: m.log("x", 1.0, on_step=False, on_epoch=False), "nobody gets the value"),
        (lambda m: m.log("x", torchmetrics.MeanMetric()), "no attribute of the module"),
        (lambda m: m.log("x", torchmetrics.MetricCollection([torchmetrics.MeanMetric()])), "Use log_dict"),
        (lambda m: m.log_dict({"x": {"y": 1.0}}), "Use log_dict"),
    ],
)
def test_what_cannot_be_logged_is_refused_with_a_way_out(log: Any, sentence: str, trainer: Any) -> None:
    with pytest.raises(ConfigError, match=sentence):
        heard(trainer, lambda module, index: log(module))


@pytest.mark.parametrize("hook", ["configure_optimizers", "on_fit_start", "on_train_end", "on_predict_start"])
def test_hooks_in_which_nothing_is_logged_say_so(hook: str, trainer: Any) -> None:
    def method(self: Any, *args: Any) -> Any:
        self.log("x", 1.0)

    module = type("Early", (Classifier,), {hook: method})()
    run = trainer(fast_dev_run=True)
    verb = run.predict if "predict" in hook else run.fit
    with pytest.raises(ConfigError, match=r"log\(name='x'\)"):
        verb(module, make_loader())


# --- batch sizes ----------------------------------------------------------------------------------


def test_a_batch_whose_tensors_disagree_is_told_once(trainer: Any) -> None:
    class Odd(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("x", float(batch_idx))

    batches = [{"many": torch.ones(4, 2), "few": torch.ones(2)}] * 3
    with pytest.warns(UserWarning, match="tensors of 4 and of 2 rows") as told:
        trainer().validate(Odd(), batches, verbose=False)
    assert len([warning for warning in told if "rows" in str(warning.message)]) == 1


def test_a_batch_without_tensors_needs_a_batch_size_for_means_only(trainer: Any) -> None:
    class Words(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("given", float(batch_idx), batch_size=len(batch))
            self.log("sum", 1.0, reduce_fx="sum")
            if self.hparams.dropout:
                self.log("mean", 1.0)

    batches = DataLoader(["a", "b", "c", "d"], 3, collate_fn=list)
    (row,) = trainer().validate(Words(dropout=0.0), batches, verbose=False)
    assert row == {"given": 0.25, "sum": 2.0}
    with pytest.raises(ConfigError, match=r"holds no tensor.*Pass batch_size="):
        trainer().validate(Words(), batches, verbose=False)


# --- metrics --------------------------------------------------------------------------------------


class Measuring(Classifier):
    def __init__(self) -> None:
        super().__init__()
        scores = [torchmetrics.MeanMetric(), torchmetrics.SumMetric()]
        self.scores = torchmetrics.MetricCollection(scores, prefix="val_")
        self.parts = torch.nn.ModuleDict({"mean": torchmetrics.MeanMetric()})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.scores(float(batch_idx))
        self.log_dict(self.scores)
        self.parts["mean"](float(batch_idx))
        self.log("part", self.parts["mean"], on_step=True, on_epoch=True)


def test_a_collection_is_logged_under_its_names_and_starts_anew(trainer: Any) -> None:
    run, module = trainer(), Measuring()
    for _ in range(2):
        (row,) = run.validate(module, make_loader(12), verbose=False)
        assert row == {"val_MeanMetric": 1.0, "val_SumMetric": 3.0, "part_epoch": 1.0}
    assert float(run.logged_metrics["part_step"]) == 2.0


def test_a_metric_that_gives_several_numbers_says_how_to_log_them(trainer: Any) -> None:
    class Several(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.every = torchmetrics.CatMetric()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.every.update(batch[1].float())
            self.log("every", self.every)

    with pytest.raises(ConfigError, match=r"compute\(\) of CatMetric gives \(12,\), not one number"):
        trainer().validate(Several(), make_loader(12), verbose=False)


def test_half_done_metrics_and_means_go_on_after_a_resume(trainer: Any, tmp_path: Any) -> None:
    class Counting(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torchmetrics.SumMetric()

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.seen(1.0)
            self.log("seen", self.seen, on_step=False, on_epoch=True)
            self.log("index", float(batch_idx), on_step=False, on_epoch=True)
            if batch_idx == 0:
                self.log("first", 5.0, on_step=False, on_epoch=True)
            return loss_of(self, batch)

    part = trainer(max_steps=4)
    part.fit(Counting(), make_loader())
    part.save_checkpoint(tmp_path / "part.ckpt")
    whole = trainer(max_epochs=1)
    whole.fit(Counting(), make_loader(), ckpt_path=tmp_path / "part.ckpt")
    metrics = {name: float(value) for name, value in whole.callback_metrics.items()}
    assert metrics == {"seen": 10.0, "index": 4.5, "first": 5.0}


def test_half_done_means_of_all_ranks_can_go_on_in_one() -> None:
    from blixt.trainer.logbook import Logbook
    from blixt.trainer.slot_specs import make_slot, spec_of
    from blixt.trainer.slots import Options

    def state(kind: Any, pair: list[float]) -> dict[str, Any]:
        options = Options(False, True, False, True, kind, False, None, None, False)
        slot = make_slot(("training_step", 0, kind), "", options, ())
        return {"slots": [[list(slot.key), {**spec_of(slot), "pair": pair}]]}

    for kind, expected in (("mean", [7.0, 3.0]), ("max", [5.0, 3.0])):
        merged = Logbook.merged([state(kind, [5.0, 2.0]), state(kind, [2.0, 1.0]), {}])
        assert merged["slots"][0][1]["pair"] == expected


# --- who reads ------------------------------------------------------------------------------------


def test_callback_metrics_is_one_dict_that_others_may_write_into(trainer: Any) -> None:
    run = heard(trainer, lambda module, index: module.log("x", 1.0))
    run.callback_metrics["mine"] = torch.tensor(3.0)
    assert run.callback_metrics is run.callback_metrics
    assert float(run.callback_metrics["mine"]) == 3.0


def test_a_new_run_starts_with_empty_stores(trainer: Any) -> None:
    run = heard(trainer, lambda module, index: module.log("x", 1.0, prog_bar=True))
    run.validate(Classifier(), make_loader(4), verbose=False)
    assert set(run.callback_metrics) == {"val_loss"}
    assert "x" not in run.progress_bar_metrics


def test_a_metric_nobody_logged_is_told_with_the_nearest_name(trainer: Any) -> None:
    run = heard(trainer, lambda module, index: module.log("val_loss", 1.0))
    error = run.logbook.missing("EarlyStopping(monitor)", "val_los")
    assert "Did you mean 'val_loss'" in str(error)
    empty = heard(trainer, lambda module, index: None)
    assert "no metric has been logged so far" in str(empty.logbook.missing("EarlyStopping(monitor)", "x"))


def test_names_without_suffix_belong_to_the_loader_that_logged_them(trainer: Any) -> None:
    class Own(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log(f"of_{dataloader_idx}", 1.0, add_dataloader_idx=False)

    rows = trainer().validate(Own(), [make_loader(4), make_loader(4)], verbose=False)
    assert [set(row) for row in rows] == [{"of_0"}, {"of_1"}]

    class Same(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("same", 1.0, add_dataloader_idx=False)

    with pytest.raises(ConfigError, match="Use a name of its own for each loader"):
        trainer().validate(Same(), [make_loader(4), make_loader(4)], verbose=False)


def test_asking_for_a_logger_that_is_not_there_warns(trainer: Any) -> None:
    with pytest.warns(UserWarning, match="the Trainer has no logger"):
        heard(trainer, lambda module, index: module.log("x", 1.0, logger=True))


def test_barebones_switches_logging_off_and_says_so_once(trainer: Any) -> None:
    run = Trainer(barebones=True, accelerator="cpu", devices=1, max_epochs=1)
    with pytest.warns(UserWarning, match="barebones=True") as told:
        run.fit(Talking(lambda module, index: module.log("x", 1.0)), make_loader())
    assert len([warning for warning in told if "switches it off" in str(warning.message)]) == 1
    assert not run.callback_metrics


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a host sync is one with an accelerator")
def test_logging_does_not_wait_for_the_device() -> None:
    class Quick(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
            torch.cuda.set_sync_debug_mode("error")
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            torch.cuda.set_sync_debug_mode("default")
            return loss

    run = Trainer(accelerator="cuda", devices=1, max_epochs=1, logger=False, enable_checkpointing=False)
    run.fit(Quick(), make_loader())
