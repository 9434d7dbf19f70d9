"""What the base class of callbacks offers: logging, state keys, entry points."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from blixt.fabric import ConfigError
from blixt.trainer import Callback, Trainer
from blixt.trainer.boring import BoringModel


def test_a_callback_logs_through_the_module_and_is_told_when_nobody_runs_it(trainer: Any) -> None:
    class Talking(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            self.log("said", 1.0)
            self.log_dict({"more": 2.0}, on_epoch=True)

    callback = Talking()
    run = trainer(fast_dev_run=True, callbacks=callback)
    run.fit(BoringModel())
    assert {"said", "more"} <= set(run.logged_metrics) | set(run.callback_metrics)
    twin = pickle.loads(pickle.dumps(callback)) if callback.__class__.__module__ != __name__ else Talking()
    with pytest.raises(RuntimeError, match="no Trainer runs this callback"):
        twin.log("x", 1.0)


def test_a_state_key_is_built_from_what_tells_instances_apart() -> None:
    class Counting(Callback):
        def __init__(self, what: str) -> None:
            self.what = what

        @property
        def state_key(self) -> str:
            return self._generate_state_key(what=self.what)

    name = Counting.__qualname__
    assert Counting("batches").state_key == f"{name}{{'what': 'batches'}}"
    assert Callback().state_key == "Callback"


def test_callbacks_of_entry_points_join_every_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blixt.trainer import callback

    (tmp_path / "plug.py").write_text(
        "from blixt.trainer import Callback\n"
        "class Plug(Callback): pass\n"
        "def one(): return Plug()\n"
        "def several(): return [Plug(), Plug()]\n"
        "def wrong(): return 3\n"
    )
    info = tmp_path / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    entries = (
        "[lightning.pytorch.callbacks_factory]\none=plug:one\n[blixt.trainer.callbacks]\nmany=plug:several\n"
    )
    (info / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(tmp_path)
    callback._factories.cache_clear()
    try:
        found = [type(c).__name__ for c in Trainer(accelerator="cpu", devices=1, logger=False).callbacks]
        assert found.count("Plug") == 3
        (info / "entry_points.txt").write_text("[blixt.trainer.callbacks]\nbad=plug:wrong\n")
        callback._factories.cache_clear()
        with pytest.raises(ConfigError, match=r"plug:wrong.*gives a int"):
            callback.callbacks_from_entry_points()
    finally:
        callback._factories.cache_clear()
