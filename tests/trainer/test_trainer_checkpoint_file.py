"""What is in a checkpoint, what is refused, and what people are told."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blixt.fabric import AsyncCheckpointIO, CheckpointError, ConfigError
from blixt.trainer import (
    Callback,
    DataModule,
    ModelCheckpoint,
    Module,
    OnExceptionCheckpoint,
    Trainer,
    seed_everything,
)
from blixt.trainer.checkpoint import find_checkpoint, hpc_path, newest_checkpoint, read
from blixt.trainer.checkpoint.upgrade import main

from .samples import Classifier, make_loader


def saved(trainer: Any, path: Path, module: Any = None, weights_only: bool = False, **options: Any) -> Any:
    run = trainer(max_steps=2, **options)
    module = Classifier() if module is None else module
    run.fit(module, make_loader())
    run.save_checkpoint(path, weights_only=weights_only)
    return module


def test_a_file_holds_what_lightnings_holds_and_our_own_section(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "a.ckpt", enable_checkpointing=True)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(content) == {
        "epoch",
        "global_step",
        "pytorch-lightning_version",
        "state_dict",
        "loops",
        "callbacks",
        "optimizer_states",
        "lr_schedulers",
        "hparams_name",
        "hyper_parameters",
        "blixt",
    }
    assert set(content["loops"]) == {"fit_loop", "validate_loop", "test_loop", "predict_loop"}
    assert set(content["blixt"]["ranks"][0]) >= {"rng", "loader", "logbook"}


def test_a_file_of_weights_leaves_out_what_resuming_needs(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "a.ckpt", weights_only=True)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert not {"callbacks", "optimizer_states", "lr_schedulers"} & set(content)
    assert "ranks" not in content["blixt"]


def test_hyper_parameters_that_are_not_plain_are_left_out_and_named(trainer: Any, tmp_path: Path) -> None:
    class Strange(Classifier):
        def __init__(self, act: Any = nn.ReLU, folder: Any = None, size: Any = None) -> None:
            super().__init__()
            self.save_hyperparameters()

    import numpy as np

    with pytest.warns(UserWarning, match=r"act is a class \(ReLU\)"):
        saved(trainer, tmp_path / "a.ckpt", Strange(folder=tmp_path, size=np.int64(3)))
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["hyper_parameters"]
    assert (kept["folder"], kept["size"]) == (str(tmp_path), 3)
    assert "act" not in kept
    assert "act" not in read(tmp_path / "a.ckpt")["hyper_parameters"]
    assert read(tmp_path / "a.ckpt", weights_only=False)["hyper_parameters"]["act"] is nn.ReLU


def test_what_callbacks_keep_is_made_plain_and_what_cannot_be_is_told(trainer: Any, tmp_path: Path) -> None:
    class Keeper(Callback):
        def __init__(self, what: Any) -> None:
            self.what = what

        def state_dict(self) -> dict[str, Any]:
            return {"what": self.what}

    saved(trainer, tmp_path / "a.ckpt", callbacks=[Keeper({"path": tmp_path, "parts": (1, {2})})])
    (kept,) = torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"].values()
    assert kept["what"] == {"path": str(tmp_path), "parts": (1, {2})}
    with pytest.warns(UserWarning, match="Keeper.what is a ConfigError"):
        saved(trainer, tmp_path / "b.ckpt", callbacks=[Keeper(ConfigError("a", 1, "b", "c"))])


class Danger:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.mark.parametrize("where", ["hyper_parameters", "callbacks", "state_dict", "extra", "blixt"])
def test_hostile_files_run_no_code(where: str, trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "a.ckpt")
    content, marker = torch.load(tmp_path / "a.ckpt", weights_only=True), tmp_path / "it-ran"
    content.setdefault(where, {})["evil"] = Danger(marker)
    torch.save(content, tmp_path / "evil.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = trainer(max_steps=3)
        if where == "state_dict":
            with pytest.raises(CheckpointError, match=r"state_dict\.evil"):
                run.fit(Classifier(), make_loader(), ckpt_path=tmp_path / "evil.ckpt")
        else:
            run.fit(Classifier(), make_loader(), ckpt_path=tmp_path / "evil.ckpt")
        newest_checkpoint(tmp_path, resumable=True)
    assert not marker.exists()


def test_a_bare_pickle_and_a_command_by_another_name_run_no_code(trainer: Any, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"

    class Shell:
        def __reduce__(self) -> Any:
            import os

            return os.system, (f"touch {marker}",)

    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps({"state_dict": Danger(marker)}))
    torch.save({"state_dict": {}, "global_step": 0, "epoch": 0, "x": Shell()}, tmp_path / "shell.ckpt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        for name in ("bare.ckpt", "shell.ckpt"):
            with pytest.raises(CheckpointError):
                trainer(max_steps=3).fit(Classifier(), make_loader(), ckpt_path=tmp_path / name)
    assert not marker.exists()


def test_objects_in_a_file_are_left_out_named_and_the_rest_is_read(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["hyper_parameters"]["loss"] = nn.MSELoss()
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match=r"hyper_parameters.loss \(torch.nn.modules.loss.MSELoss\)"):
        found = read(tmp_path / "a.ckpt")
    assert found["hyper_parameters"] == {"dropout": 0.2, "learning_rate": 0.05}
    assert isinstance(read(tmp_path / "a.ckpt", weights_only=False)["hyper_parameters"]["loss"], nn.MSELoss)
    with (tmp_path / "a.ckpt").open("rb") as file, pytest.warns(UserWarning, match="Not read from"):
        assert set(read(file)["state_dict"]) == set(found["state_dict"])


def test_a_checkpoint_of_another_model_is_refused_with_every_difference(trainer: Any, tmp_path: Path) -> None:
    class Other(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.net[3] = nn.Linear(16, 3)
            self.extra = nn.Linear(1, 1)

    saved(trainer, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError) as caught:
        trainer(max_steps=3).fit(Other(), make_loader(), ckpt_path=tmp_path / "a.ckpt")
    told = str(caught.value)
    assert "of another model than Other: missing in the file: extra.weight, extra.bias" in told
    assert "net.3.weight is (2, 16) in the file and (3, 16) in the module" in told


def test_strict_loading_of_a_module_allows_other_names_and_tells_them(trainer: Any, tmp_path: Path) -> None:
    class Relaxed(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(1, 1)
            self.strict_loading = False

    saved(trainer, tmp_path / "a.ckpt", weights_only=True)
    with pytest.warns(UserWarning, match="in the module but not in the checkpoint: extra.weight, extra.bias"):
        trainer().validate(Relaxed(), make_loader(), ckpt_path=tmp_path / "a.ckpt", verbose=False)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"weight": torch.ones(1)}, "bare weights"),
        ({"model": 1}, "no 'state_dict'. It holds model"),
        ([1], "holds a list"),
    ],
)
def test_foreign_files_are_refused_with_what_they_hold(
    content: Any, told: str, trainer: Any, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=told):
        trainer().fit(Classifier(), make_loader(), ckpt_path=tmp_path / "x.ckpt")


def test_other_optimizers_than_in_the_file_are_refused(trainer: Any, tmp_path: Path) -> None:
    class Groups(Classifier):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([{"params": [p]} for p in self.parameters()], lr=0.1)

    saved(trainer, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="Optimizer 0 of the checkpoint does not fit SGD"):
        trainer(max_steps=3).fit(Groups(), make_loader(), ckpt_path=tmp_path / "a.ckpt")


def test_auto_passes_over_torn_foreign_and_weights_only_files(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "good.ckpt")
    saved(trainer, tmp_path / "weights.ckpt", weights_only=True)
    whole = (tmp_path / "good.ckpt").read_bytes()
    (tmp_path / "torn.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"model": 1}, tmp_path / "foreign.ckpt")
    with pytest.warns(UserWarning, match="Passed over") as caught:
        assert newest_checkpoint(tmp_path, resumable=True) == tmp_path / "good.ckpt"
    told = " ".join(str(warning.message) for warning in caught)
    assert "torn.ckpt: it is torn" in told
    assert "foreign.ckpt: it is not a Trainer's" in told
    with pytest.raises(CheckpointError, match=r"torn\.ckpt is damaged"):
        trainer(max_steps=4).fit(Classifier(), make_loader(), ckpt_path=tmp_path / "torn.ckpt")
    run = trainer(max_steps=4)
    with pytest.warns(UserWarning, match="Passed over"):
        run.fit(Classifier(), make_loader(), ckpt_path="auto")
    assert run.global_step == 4


def test_last_best_and_hpc_are_found(trainer: Any, tmp_path: Path) -> None:
    keeper = ModelCheckpoint(tmp_path / "kept", save_last=True)
    run = trainer(max_epochs=1, callbacks=[keeper], enable_checkpointing=True)
    run.fit(Classifier(), make_loader())
    find = [find_checkpoint(word, "fit", [keeper], tmp_path, run.fabric) for word in ("best", "last")]
    assert find == [keeper.best_model_path, str(tmp_path / "kept" / "last.ckpt")]
    run.save_checkpoint(hpc_path(tmp_path))
    run.save_checkpoint(hpc_path(tmp_path))
    found = find_checkpoint("hpc", "fit", [keeper], tmp_path, run.fabric)
    assert found == str(tmp_path / "hpc_ckpt_2.ckpt")


def test_a_requeued_slurm_job_goes_on_by_itself(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(trainer, tmp_path / "hpc_ckpt_1.ckpt")
    run = trainer(max_steps=4)
    assert find_checkpoint(None, "fit", [], tmp_path, run.fabric) is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    found = find_checkpoint(None, "fit", [], tmp_path, run.fabric)
    assert found == str(tmp_path / "hpc_ckpt_1.ckpt")


def test_what_is_missing_is_named(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "epoch=0.ckpt")
    run = trainer()

    def find(wanted: Any, callbacks: Any = ()) -> Any:
        return find_checkpoint(wanted, "fit", callbacks, tmp_path, run.fabric)

    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*r\.ckpt\. That folder has epoch=0"):
        find(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="Did you mean 'last'"):
        find("lest")
    with pytest.raises(ConfigError, match="no hpc_ckpt_<n>"):
        find("hpc")
    with pytest.raises(ConfigError, match="saved no checkpoint yet"):
        find("best", [ModelCheckpoint(tmp_path)])
    with pytest.warns(UserWarning, match="No checkpoint will be loaded"):
        assert find("last") is None


def test_checkpoints_live_at_urls_too(trainer: Any) -> None:
    run = trainer(max_steps=2)
    run.fit(Classifier(), make_loader())
    run.save_checkpoint("memory://bucket/run/a.ckpt")
    again = trainer(max_steps=4, default_root_dir="memory://bucket/run")
    again.fit(Classifier(), make_loader(), ckpt_path="memory://bucket/run/a.ckpt")
    assert again.global_step == 4
    assert find_checkpoint("auto", "fit", [], "memory://bucket", again.fabric) == "memory://bucket/run/a.ckpt"
    assert read("memory://bucket/run/a.ckpt")["global_step"] == 2


def test_data_modules_keep_state_and_hyper_parameters(trainer: Any, tmp_path: Path) -> None:
    class Data(DataModule):
        def __init__(self, rows: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.used = 0

        def train_dataloader(self) -> Any:
            return make_loader(self.hparams.rows)

        def state_dict(self) -> dict[str, Any]:
            return {"used": 3}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.used = state_dict["used"]

    run = trainer(max_steps=1)
    run.fit(Classifier(), datamodule=Data(12))
    run.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["datamodule_hyper_parameters"] == {"rows": 12}
    assert content[Data.__qualname__] == {"used": 3}
    data = Data(12)
    trainer(max_steps=2).fit(Classifier(), datamodule=data, ckpt_path=tmp_path / "a.ckpt")
    assert data.used == 3


def test_old_files_are_upgraded_in_place_beside_a_copy(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(trainer, tmp_path / "old.ckpt")
    content = torch.load(tmp_path / "old.ckpt", weights_only=True)
    del content["blixt"], content["loops"]
    content["pytorch-lightning_version"] = "1.5.0"
    torch.save(content, tmp_path / "old.ckpt")
    assert main([str(tmp_path)]) == 0
    upgraded = torch.load(tmp_path / "old.ckpt", weights_only=True)
    assert upgraded["legacy_pytorch-lightning_version"] == "1.5.0"
    assert "epoch_loop.automatic_optimization.optim_progress" in upgraded["loops"]["fit_loop"]
    assert torch.load(tmp_path / "old.bak", weights_only=True)["pytorch-lightning_version"] == "1.5.0"
    assert "old.ckpt" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 1


def test_states_of_callbacks_that_are_not_there_are_named(trainer: Any, tmp_path: Path) -> None:
    saved(trainer, tmp_path / "a.ckpt", callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=True)
    with pytest.warns(UserWarning, match="callbacks that this trainer does not have: ModelCheckpoint"):
        trainer(max_steps=3).fit(Classifier(), make_loader(), ckpt_path=tmp_path / "a.ckpt")


def test_evaluating_without_a_model_takes_the_best_and_says_so(trainer: Any, tmp_path: Path) -> None:
    run = trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=True)
    module: Module = Classifier()
    run.fit(module, make_loader())
    with pytest.warns(UserWarning, match="evaluates the best checkpoint"):
        run.test(dataloaders=make_loader(), verbose=False)
    assert isinstance(run, Trainer)


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_checkpoint_due(self, trainer: Trainer, module: Any, at_epoch_end: bool) -> None:
        if trainer.global_step == self.step and not at_epoch_end:
            trainer.save_checkpoint(self.path)


def test_what_a_failed_fit_saved_is_gone_on_from(trainer: Any, tmp_path: Path) -> None:
    class Failing(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == 4:
                raise ValueError("a mistake of the user")
            return super().training_step(batch, batch_idx)

    keeper = OnExceptionCheckpoint(tmp_path)
    with pytest.raises(ValueError, match="a mistake"):
        trainer(max_epochs=1, callbacks=[keeper], enable_checkpointing=True).fit(Failing(), make_loader())
    again = OnExceptionCheckpoint(tmp_path)
    module, run = Classifier(), trainer(max_epochs=1, callbacks=[again], enable_checkpointing=True)
    with pytest.warns(UserWarning, match="which OnExceptionCheckpoint saved when training failed"):
        run.fit(module, make_loader())
    assert (run.global_step, len(module.losses)) == (10, 6)


def test_saves_in_the_background_are_resumed_exactly(trainer: Any, tmp_path: Path) -> None:
    seed_everything(2)
    plugin = AsyncCheckpointIO()
    whole, run = (
        Classifier(),
        trainer(max_epochs=1, plugins=[plugin], callbacks=[SaveAt(4, tmp_path / "a.ckpt")]),
    )
    run.fit(whole, make_loader())
    plugin.teardown()
    again = Classifier()
    trainer(max_epochs=1).fit(again, make_loader(), ckpt_path=tmp_path / "a.ckpt")
    assert again.losses == whole.losses[4:]


def test_counters_tell_samples_and_tokens_and_keep_them(trainer: Any, tmp_path: Path) -> None:
    class Weighted(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": super().training_step(batch, batch_idx), "weight": torch.tensor(7)}

    saved(trainer, tmp_path / "a.ckpt", Weighted())
    run = trainer(max_steps=5)
    run.fit(Weighted(), make_loader(), ckpt_path=tmp_path / "a.ckpt")
    counters = run.counters
    assert (counters.batches, counters.optimizer_steps, counters.samples, counters.tokens) == (5, 5, 20, 35)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_the_number_of_workers_may_change(before: int, after: int, trainer: Any, tmp_path: Path) -> None:
    seed_everything(2)
    whole = Classifier()
    run = trainer(max_epochs=1, callbacks=[SaveAt(4, tmp_path / "a.ckpt")])
    run.fit(whole, make_loader(num_workers=before))
    again = Classifier()
    trainer(max_epochs=1).fit(again, make_loader(num_workers=after), ckpt_path=tmp_path / "a.ckpt")
    assert again.losses == whole.losses[4:]


def test_a_registry_of_models_is_refused(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="no registry of models"):
        trainer().fit(Classifier(), make_loader(), ckpt_path="registry:name")
