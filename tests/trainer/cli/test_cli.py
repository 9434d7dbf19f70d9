"""The command line that is made from classes."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.trainer.cli.parts import Activation, Data, DeepNet, Injected, Linked, Net, Notes

from blixt.fabric import ConfigError
from blixt.trainer import CSVLogger, EarlyStopping, LearningRateMonitor, ModelCheckpoint, Trainer
from blixt.trainer.cli import (
    CLI,
    ArgumentParser,
    ConfigExistsError,
    ReduceLROnPlateau,
    SaveConfigCallback,
    instantiate_class,
)


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Defaults of a trainer that runs for one epoch on the CPU and says nothing."""
    monkeypatch.setattr(sys, "argv", ["main.py"])
    return {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(tmp_path / "root"),
    }


def cli(quiet: dict[str, Any], *words: Any, model: Any = Net, data: Any = Data, **options: Any) -> CLI:
    given = {"save_config_callback": None, **options}
    kind = given.pop("kind", CLI)
    return kind(model, data, trainer_defaults=quiet, args=[str(word) for word in words], **given)


def made(quiet: dict[str, Any], *words: Any, **options: Any) -> CLI:
    """Objects without running anything."""
    return cli(quiet, *words, run=False, **options)


# --- verbs and arguments --------------------------------------------------------------------------


def test_fit_trains_the_module_that_the_words_describe(quiet: dict[str, Any]) -> None:
    ran = cli(quiet, "fit", "--model.width=5", "--data.batch_size=8", "--trainer.max_epochs=2")
    assert ran.model.net[0].out_features == 5
    assert ran.trainer.global_step == 10
    assert ran.trainer.datamodule is ran.datamodule
    assert ran.subcommand == "fit"


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_other_verbs_run_too(quiet: dict[str, Any], verb: str) -> None:
    ran = cli(quiet, verb, "--trainer.limit_val_batches=1")
    assert ran.trainer.state.fn == verb
    assert ran.trainer.state.finished


def test_without_running_the_objects_are_only_made(quiet: dict[str, Any]) -> None:
    objects = made(quiet, "--trainer.precision=bf16-mixed", "--model.width=3")
    assert objects.subcommand is None
    assert (objects.trainer.precision, objects.trainer.global_step) == ("bf16-mixed", 0)
    assert isinstance(objects.datamodule, Data)


def test_values_may_come_as_a_dict(quiet: dict[str, Any]) -> None:
    values = {"fit": {"model": {"width": 7}, "trainer": {"limit_train_batches": 2}}}
    ran = CLI(Net, Data, save_config_callback=None, trainer_defaults=quiet, args=values)
    assert (ran.model.net[0].out_features, ran.trainer.global_step) == (7, 2)


def test_words_on_the_command_line_are_read_when_none_are_given(
    quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--model.width=6"])
    objects = CLI(Net, Data, trainer_defaults=quiet, save_config_callback=None, run=False)
    assert objects.model.net[0].out_features == 6
    with pytest.warns(UserWarning, match="the command line is not read: --model.width=6"):
        assert made(quiet, "--model.width=9").model.net[0].out_features == 9


def test_help_shows_what_the_docstrings_say(quiet: dict[str, Any], capsys: Any) -> None:
    with pytest.raises(SystemExit) as left:
        cli(quiet, "fit", "--help")
    said = capsys.readouterr().out
    assert left.value.code == 0
    assert "Of the hidden layer." in said
    assert "--trainer.val_check_interval" in said
    assert "--ckpt_path" in said


@pytest.mark.parametrize(
    "words",
    [["--model.width=wide"], ["--model.widht=3"], ["--trainer.max_eposh=3"], ["--trainer.logger=Nope"]],
)
def test_a_wrong_word_is_refused_by_name(quiet: dict[str, Any], capsys: Any, words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        made(quiet, *words)
    assert left.value.code == 2
    assert words[0].split("=")[0].strip("-").split(".")[-1] in capsys.readouterr().err


# --- files and the environment --------------------------------------------------------------------


def test_several_files_are_merged_and_words_win(quiet: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {width: 3}\ntrainer: {max_epochs: 7, min_epochs: 2}\n")
    (tmp_path / "b.yaml").write_text("trainer: {max_epochs: 8}\ndata: {batch_size: 5}\n")
    words = ["--config", tmp_path / "a.yaml", "--config", tmp_path / "b.yaml", "--trainer.min_epochs=1"]
    objects = made(quiet, *words)
    config = objects.trainer.config
    assert (config.max_epochs, config.min_epochs) == (8, 1)
    assert (objects.model.net[0].out_features, objects.datamodule.batch_size) == (3, 5)


def test_a_group_may_have_a_file_of_its_own(quiet: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("width: 11\n")
    assert made(quiet, f"--model={tmp_path}/model.yaml").model.net[0].out_features == 11


def test_the_environment_is_read_when_asked_for(
    quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_MODEL__WIDTH", "13")
    monkeypatch.setenv("OWN_MODEL__WIDTH", "14")
    assert made(quiet).model.net[0].out_features == 16
    assert made(quiet, parser_kwargs={"default_env": True}).model.net[0].out_features == 13
    own = {"default_env": True, "env_prefix": "OWN"}
    assert made(quiet, parser_kwargs=own).model.net[0].out_features == 14


def test_a_verb_may_have_files_and_settings_of_its_own(quiet: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("model: {width: 9}\n")
    own = {"fit": {"default_config_files": [str(tmp_path / "fit.yaml")]}, "description": "Mine."}
    ran = cli(quiet, "fit", "--trainer.limit_train_batches=1", parser_kwargs=own)
    assert ran.model.net[0].out_features == 9
    assert ran.parser.description == "Mine."
    assert cli(quiet, "validate", parser_kwargs=own).model.net[0].out_features == 16


def test_the_configuration_can_be_printed_and_read_back(
    quiet: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as left:
        cli(quiet, "fit", "--model.width=12", "--print_config")
    assert left.value.code == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    ran = cli(quiet, "fit", "--config", tmp_path / "printed.yaml", "--trainer.limit_train_batches=1")
    assert ran.model.net[0].out_features == 12


# --- saving the configuration ---------------------------------------------------------------------


def test_the_configuration_is_saved_beside_the_logs_and_repeats_the_run(
    quiet: dict[str, Any], tmp_path: Path
) -> None:
    words = ["fit", "--model.width=6", "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    ran = cli(quiet, *words, "--seed_everything=7", save_config_callback=SaveConfigCallback)
    path = Path(ran.trainer.log_dir or "") / "config.yaml"
    saved = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# blixt==")
    assert (saved["seed_everything"], saved["model"]["width"]) == (7, 6)
    assert saved["trainer"]["logger"]["class_path"].endswith("CSVLogger")
    again = cli(quiet, "fit", "--config", path)
    same = zip(ran.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_the_configuration_of_another_run_is_not_overwritten_unasked(
    quiet: dict[str, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"save_config_callback": SaveConfigCallback}
    cli(quiet, "fit", **options)
    with pytest.raises(ConfigExistsError, match="Aborting to avoid overwriting"):
        cli(quiet, "fit", **options)
    cli(quiet, "fit", "--model.width=3", save_config_kwargs={"overwrite": True}, **options)
    assert yaml.safe_load((tmp_path / "root" / "config.yaml").read_text())["model"]["width"] == 3


def test_it_may_be_saved_elsewhere_instead(quiet: dict[str, Any], tmp_path: Path) -> None:
    class Elsewhere(SaveConfigCallback):
        def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
            (tmp_path / "elsewhere.yaml").write_text(self.parser.dump(self.config, skip_none=False))

    cli(quiet, "fit", save_config_callback=Elsewhere, save_config_kwargs={"save_to_log_dir": False})
    assert (tmp_path / "elsewhere.yaml").exists()
    assert not (tmp_path / "root" / "config.yaml").exists()
    with pytest.raises(ConfigError, match="Override save_config"):
        cli(
            quiet,
            "fit",
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"save_to_log_dir": False},
        )


def test_a_dry_run_saves_no_configuration(quiet: dict[str, Any], tmp_path: Path) -> None:
    cli(quiet, "fit", "--trainer.fast_dev_run=true", save_config_callback=SaveConfigCallback)
    assert not (tmp_path / "root").exists()


# --- classes by name ------------------------------------------------------------------------------


def test_callbacks_and_loggers_have_short_names(quiet: dict[str, Any], tmp_path: Path) -> None:
    objects = made(
        quiet,
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val_loss",
        "--trainer.callbacks+=LearningRateMonitor",
        "--trainer.callbacks.logging_interval=epoch",
        "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={tmp_path}",
    )
    kinds = [type(callback) for callback in objects.trainer.callbacks]
    assert kinds == [EarlyStopping, LearningRateMonitor]
    assert objects.trainer.callbacks[1].logging_interval == "epoch"
    assert isinstance(objects.trainer.logger, CSVLogger)


def test_without_classes_the_words_choose_them(quiet: dict[str, Any]) -> None:
    objects = made(quiet, "--model=DeepNet", "--model.depth=3", "--data=Data", model=None, data=None)
    assert isinstance(objects.model, DeepNet)
    assert (objects.model.depth, type(objects.datamodule)) == (3, Data)
    path = "tests.trainer.cli.parts.DeepNet"
    assert isinstance(made(quiet, f"--model={path}", model=None, data=None).model, DeepNet)


def test_subclasses_are_allowed_where_that_is_asked_for(quiet: dict[str, Any]) -> None:
    objects = made(quiet, "--model=DeepNet", "--model.width=2", subclass_mode_model=True)
    assert isinstance(objects.model, DeepNet)
    with pytest.raises(SystemExit):
        made(quiet, "--model=Activation", subclass_mode_model=True)


def test_parts_of_a_module_are_injected(quiet: dict[str, Any]) -> None:
    objects = made(quiet, "--model.activation=Activation", "--model.activation.slope=0.5")
    assert isinstance(objects.model.activation, Activation)
    assert objects.model.activation.slope == 0.5


def test_functions_may_stand_for_classes(quiet: dict[str, Any]) -> None:
    def small_net(width: int = 2) -> Net:
        return Net(width)

    def tiny_trainer(max_epochs: int = 3, callbacks: Any = None) -> Trainer:
        return Trainer(**{**quiet, "max_epochs": max_epochs, "callbacks": callbacks})

    objects = CLI(small_net, Data, save_config_callback=None, trainer_class=tiny_trainer, run=False, args=[])
    assert objects.model.net[0].out_features == 2
    assert objects.trainer.max_epochs == 3


# --- optimizers and schedulers --------------------------------------------------------------------


def test_an_optimizer_and_a_scheduler_replace_the_modules_own(quiet: dict[str, Any]) -> None:
    scheduler = ["--lr_scheduler=StepLR", "--lr_scheduler.step_size=7"]
    words = ["--optimizer=NAdam", "--optimizer.lr=0.25", *scheduler]
    with pytest.warns(UserWarning, match="replaces configure_optimizers of Net"):
        ran = cli(quiet, "fit", *words)
    optimizer = ran.trainer.optimizers[0]
    assert (type(optimizer).__name__, optimizer.param_groups[0]["lr"]) == ("NAdam", 0.25)
    assert ran.trainer.lr_scheduler_configs[0].scheduler.step_size == 7


def test_a_plateau_scheduler_takes_the_metric_it_watches(quiet: dict[str, Any]) -> None:
    words = ["--optimizer=ASGD", "--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val_loss"]
    with pytest.warns(UserWarning, match="replaces"):
        ran = cli(quiet, "fit", *words)
    config = ran.trainer.lr_scheduler_configs[0]
    assert isinstance(config.scheduler, ReduceLROnPlateau)
    assert config.monitor == "val_loss"


def test_without_an_optimizer_the_modules_own_is_used(quiet: dict[str, Any]) -> None:
    ran = cli(quiet, "fit")
    assert type(ran.trainer.optimizers[0]).__name__ == "SGD"
    with pytest.raises(SystemExit):
        made(quiet, "--optimizer=Adam", auto_configure_optimizers=False)


def test_a_fixed_optimizer_class_has_its_arguments_in_the_group(quiet: dict[str, Any]) -> None:
    class Own(CLI):
        def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.Adam, nested_key="opt")
            parser.add_lr_scheduler_args(torch.optim.lr_scheduler.ExponentialLR, nested_key="sched")

    with pytest.warns(UserWarning, match="replaces"):
        ran = cli(quiet, "fit", "--opt.lr=0.5", "--sched.gamma=0.1", kind=Own)
    assert ran.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05)


def test_several_optimizers_are_linked_to_the_module(quiet: dict[str, Any]) -> None:
    class Own(CLI):
        def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.Adam, nested_key="one", link_to="model.first")
            parser.add_optimizer_args((torch.optim.SGD,), nested_key="two", link_to="model.second")

    objects = made(quiet, "--one.lr=0.5", "--two=SGD", "--two.lr=0.25", model=Linked, kind=Own)
    first = instantiate_class(objects.model.parameters(), objects.model.first)
    second = instantiate_class(objects.model.parameters(), objects.model.second)
    assert (type(first), first.param_groups[0]["lr"]) == (torch.optim.Adam, 0.5)
    assert (type(second), second.param_groups[0]["lr"]) == (torch.optim.SGD, 0.25)


def test_two_optimizers_without_a_place_to_go_are_refused(quiet: dict[str, Any]) -> None:
    class Own(CLI):
        def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
            parser.add_optimizer_args(torch.optim.Adam, nested_key="one")
            parser.add_optimizer_args(torch.optim.SGD, nested_key="two")

    with pytest.raises(ConfigError, match="Give link_to"):
        made(quiet, "--one.lr=0.5", "--two.lr=0.25", kind=Own)


def test_functions_that_make_optimizers_are_arguments_of_a_module(quiet: dict[str, Any]) -> None:
    words = ["--model.optimizer=NAdam", "--model.optimizer.lr=0.125", "--model.scheduler=ExponentialLR"]
    ran = cli(quiet, "fit", *words, "--model.scheduler.gamma=0.5", model=Injected)
    optimizer = ran.trainer.optimizers[0]
    assert (type(optimizer).__name__, optimizer.param_groups[0]["lr"]) == ("NAdam", 0.0625)
    assert cli(quiet, "fit", model=Injected).trainer.optimizers[0].param_groups[0]["lr"] == 0.5


# --- own command lines ----------------------------------------------------------------------------


def test_arguments_are_linked_before_and_after_objects_are_made(quiet: dict[str, Any]) -> None:
    class Own(CLI):
        def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
            parser.link_arguments("data.batch_size", "model.width")
            parser.link_arguments("data.num_classes", "model.classes", apply_on="instantiate")

    class Many(Data):
        num_classes = 5

    objects = made(quiet, "--data.batch_size=6", data=Many, kind=Own)
    assert (objects.model.net[0].out_features, objects.model.net[2].out_features) == (6, 5)
    assert objects.model.hparams.classes == 5


def test_callbacks_may_have_groups_and_always_be_there(quiet: dict[str, Any]) -> None:
    class Own(CLI):
        def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
            parser.add_lightning_class_args(Notes, "notes")
            parser.set_defaults({"notes.text": "default"})

    always = {**quiet, "callbacks": Notes("always")}
    objects = made(always, "--trainer.callbacks=LearningRateMonitor", kind=Own)
    found = [callback.text for callback in objects.trainer.callbacks if isinstance(callback, Notes)]
    assert found == ["default", "always"]
    assert any(isinstance(callback, LearningRateMonitor) for callback in objects.trainer.callbacks)


def test_a_command_line_acts_before_after_and_instead_of_its_verbs(quiet: dict[str, Any]) -> None:
    order: list[str] = []

    class Own(CLI):
        def before_instantiate_classes(self) -> None:
            order.append("before objects")

        def after_instantiate_classes(self) -> None:
            order.append("after objects")

        def before_fit(self) -> None:
            order.append("before fit")

        def fit(self, **arguments: Any) -> None:
            order.append(f"fit {sorted(arguments)}")

        def after_fit(self) -> None:
            order.append("after fit")

    cli(quiet, "fit", kind=Own)
    arguments = ["ckpt_path", "datamodule", "model", "weights_only"]
    assert order == ["before objects", "after objects", "before fit", f"fit {arguments}", "after fit"]


def test_a_trainer_of_ones_own_brings_verbs_of_its_own(quiet: dict[str, Any]) -> None:
    class Own(Trainer):
        def count(self, model: Net, datamodule: Any = None, upto: int = 3) -> None:
            """Count.

            Args:
                upto: Where to stop.
            """
            self.counted = list(range(upto))

    class WithCount(CLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {"count": {"model", "datamodule"}}

    ran = cli(quiet, "count", "--upto=4", kind=WithCount, trainer_class=Own)
    assert ran.trainer.counted == [0, 1, 2, 3]


# --- seeds and checkpoints ------------------------------------------------------------------------


def test_the_seed_is_set_before_anything_is_made(quiet: dict[str, Any]) -> None:
    first, second, third = (made(quiet, f"--seed_everything={seed}") for seed in (5, 5, 6))
    same = [torch.equal(first.model.net[0].weight, other.model.net[0].weight) for other in (second, third)]
    assert same == [True, False]
    state = torch.get_rng_state()
    untouched = made(quiet, "--seed_everything=false", model=Net)
    assert untouched.config["seed_everything"] is False
    assert made(quiet).config["seed_everything"] is not True
    torch.set_rng_state(state)


def test_a_module_with_injected_parts_comes_back_from_its_checkpoint(
    quiet: dict[str, Any], tmp_path: Path
) -> None:
    words = ["--model.width=6", "--model.activation=Activation", "--model.activation.slope=0.5"]
    saver = ModelCheckpoint(tmp_path)
    ran = cli({**quiet, "enable_checkpointing": True, "callbacks": [saver]}, "fit", *words)
    kept = torch.load(saver.best_model_path)["hyper_parameters"]
    assert kept["activation"]["init_args"] == {"slope": 0.5}
    again = Net.load_from_checkpoint(saver.best_model_path)
    assert isinstance(again.activation, Activation)
    assert again.activation.slope == 0.5
    assert torch.equal(again.net[0].weight, ran.model.net[0].weight)
    assert Data.load_from_checkpoint(saver.best_model_path).batch_size == 4


def test_a_checkpoint_tells_how_its_module_was_made(quiet: dict[str, Any], tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path)
    training = {**quiet, "enable_checkpointing": True, "callbacks": [saver]}
    cli(training, "fit", "--model.width=6")
    tested = cli(quiet, "test", f"--ckpt_path={saver.best_model_path}")
    assert tested.model.net[0].out_features == 6


def test_plain_arguments_are_kept_without_the_support(quiet: dict[str, Any]) -> None:
    objects = made(quiet, "--model.width=6", load_from_checkpoint_support=False)
    assert "_instantiator" not in objects.model.hparams
    assert objects.model.hparams.width == 6
