"""Progress bars and the table of the model."""

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.samples import Classifier, make_loader
from torch import nn

from blixt.fabric import ConfigError
from blixt.trainer import (
    CSVLogger,
    ModelSummary,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    RichProgressBarTheme,
    TQDMProgressBar,
)
from blixt.trainer.callbacks.timed_bar import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(trainer: Any, bar: Any, **options: Any) -> Any:
    made = trainer(enable_progress_bar=True, callbacks=[bar], **{"max_epochs": 2, **options})
    made.fit(Classifier(), make_loader(), make_loader(8))
    return made


def test_where_nobody_watches_each_epoch_leaves_a_line(trainer: Any) -> None:
    stream = io.StringIO()
    run(trainer, TQDMProgressBar(stream=stream))
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["epoch 1/2", "10/10"], ["epoch 2/2", "10/10"]]


def test_on_a_terminal_one_line_is_redrawn_and_only_the_last_stays(trainer: Any) -> None:
    kept, redrawn = Terminal(), Terminal()
    run(trainer, TQDMProgressBar(stream=redrawn))
    run(trainer, TQDMProgressBar(stream=kept, leave=True))
    assert redrawn.getvalue().count("\n") == 1
    assert kept.getvalue().count("\n") == 2
    assert "\repoch 2/2  ━━━━━━━━━━━━━━━━━━━━━━━━  10/10" in redrawn.getvalue()


def test_drawings_are_a_tenth_of_a_second_apart_however_fast_the_steps_are(trainer: Any) -> None:
    class Counts(TQDMProgressBar):
        shown = asked = 0

        def show(self, progress: Progress) -> None:
            self.shown += 1

        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            self.asked += 1
            return super().get_metrics(trainer, pl_module)

    bar = Counts(stream=Terminal(), refresh_s=0.0)
    made = trainer(enable_progress_bar=True, callbacks=[bar], max_epochs=1)
    loader = make_loader(4 * 300)
    made.fit(Classifier(), loader)
    assert bar._every_s == 0.1
    assert bar.asked == bar.shown < 300  # metrics leave the device for drawings only


def test_a_rate_of_zero_draws_nothing(trainer: Any) -> None:
    stream = io.StringIO()
    bar = TQDMProgressBar(refresh_rate=0, stream=stream)
    run(trainer, bar)
    assert bar.is_disabled
    assert stream.getvalue() == ""
    with pytest.raises(ConfigError, match="Use 0 for no bar"):
        TQDMProgressBar(refresh_rate=-1)


def test_the_base_called_itself_is_the_usual_bar_and_derived_from_draws_nothing(
    trainer: Any, capsys: Any
) -> None:
    class Own(ProgressBar):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            self.seen = (self.total_train_batches, self.total_val_batches, self.train_description)
            self.metrics = self.get_metrics(trainer, module)

    bar = Own()
    made = run(trainer, bar, logger=CSVLogger(Path(trainer().default_root_dir)))
    assert isinstance(ProgressBar(), TQDMProgressBar)
    assert bar.seen == (10, 2, "Training")
    assert bar.metrics["v_num"] == 0
    assert made.progress_bar_callback is bar
    assert "epoch" not in capsys.readouterr().err


def test_a_trainer_with_a_bar_can_be_copied_and_pickled(trainer: Any) -> None:
    for bar in (TQDMProgressBar(), RichProgressBar()):
        assert isinstance(pickle.loads(pickle.dumps(bar)), type(bar))
        assert isinstance(copy.deepcopy(bar), type(bar))
        run(trainer, bar)
        assert pickle.loads(pickle.dumps(bar)).refresh_rate == bar.refresh_rate  # after a run too


def test_rich_draws_all_stages_and_gives_the_terminal_back(trainer: Any) -> None:
    stream = io.StringIO()
    theme = RichProgressBarTheme(metrics_format=".1f", metrics_text_delimiter="|")
    bar = RichProgressBar(theme=theme, console_kwargs={"file": stream, "width": 120})
    made = run(trainer, bar)
    made.test(Classifier(), make_loader(8), verbose=False)
    made.predict(Classifier(), [torch.randn(2, 8)])
    assert "Training epoch 2/2" in stream.getvalue()
    assert "10/10" in stream.getvalue()
    assert not bar._drawing
    assert [task.visible for task in bar.progress.tasks] == [True]  # nothing of the stages before


def test_the_columns_of_the_rich_bar_can_be_chosen(trainer: Any) -> None:
    from rich.progress import TextColumn

    class Chosen(RichProgressBar):
        def configure_columns(self, trainer: Any) -> list[Any]:
            ours = super().configure_columns(trainer)
            return [TextColumn(f"of {trainer.max_epochs}"), *ours[2:3]]

        def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
            return {"mine": 0.25, "n": torch.tensor(3)}

    stream = io.StringIO()
    bar = Chosen(console_kwargs={"file": stream, "width": 80})
    made = run(trainer, bar, enable_model_summary=True)
    assert stream.getvalue().split("\n")[0].rstrip() == "of 2 10/10 mine: 0.250 n: 3"
    assert len(bar.progress.columns) == 3
    assert any(isinstance(callback, RichModelSummary) for callback in made.callbacks)
    assert bar.__getstate__()["progress"] is None  # it holds locks, and belongs to this terminal


def test_a_rich_bar_of_unknown_length_and_one_of_a_run_that_ends_by_steps(trainer: Any) -> None:
    stream = io.StringIO()
    bar = RichProgressBar(console_kwargs={"file": stream, "width": 120})
    made = trainer(enable_progress_bar=True, callbacks=[bar], max_steps=3, max_epochs=-1)
    made.fit(Classifier(), make_loader(), make_loader(8))
    assert not bar._drawing
    bar.setup(made, Classifier(), "fit")
    bar.show(Progress("Training", "", 3, None, 1.0, 3.0, {}))
    bar.abandon()
    assert "Training" in stream.getvalue()
    assert "3/?" in stream.getvalue()


def test_a_failing_run_leaves_the_bar(trainer: Any) -> None:
    class Fails(Classifier):
        def on_train_epoch_end(self) -> None:
            raise ValueError("no more")

    stream = Terminal()
    bar = TQDMProgressBar(stream=stream, refresh_s=0.1)
    bar._width = 5
    with pytest.raises(ValueError, match="no more"):
        trainer(enable_progress_bar=True, callbacks=[bar], max_epochs=1).fit(Fails(), make_loader())
    assert stream.getvalue().endswith("\n")


# --- the model's table ----------------------------------------------------------------------------


class Shaped(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.example_input_array = torch.zeros(5, 8)


def test_the_summary_is_printed_once_with_shapes_and_operations(trainer: Any, capsys: Any) -> None:
    made = trainer(enable_model_summary=True, callbacks=[ModelSummary(max_depth=2)], max_epochs=1)
    made.fit(Shaped(), make_loader())
    said = capsys.readouterr().out
    assert "net.0" in said
    assert "[5, 8]" in said
    assert "181       Total params" in said


def test_depth_zero_prints_nothing_and_rich_prints_a_table(trainer: Any, capsys: Any) -> None:
    trainer(enable_model_summary=True, callbacks=[ModelSummary(0)], max_epochs=1).fit(Shaped(), make_loader())
    assert "params" not in capsys.readouterr().out
    trainer(enable_model_summary=True, callbacks=[RichModelSummary()], max_epochs=1).fit(
        Shaped(), make_loader()
    )
    assert "┃ Name" in capsys.readouterr().out
