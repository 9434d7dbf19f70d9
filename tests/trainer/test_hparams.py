"""`save_hyperparameters` and `load_from_checkpoint`: what is kept, and what comes back."""

import copy
import pickle
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from blixt.fabric import CheckpointError, ConfigError
from blixt.trainer import DataModule, Module
from blixt.trainer.boring import BoringModel
from blixt.trainer.hparams import HParams, given_hyperparameters, hparams_entries


class Sized(BoringModel):
    def __init__(self, width: int = 2, *, rate: float = 0.1, name: str = "small") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(32, width)


class Named(BoringModel):
    def __init__(self, width: int = 2, rate: float = 0.1, secret: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters("width", "rate")


class Config(BoringModel):
    def __init__(self, config: Any, extra: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters(config)


def saved(module: Module, path: Path, **more: Any) -> Path:
    torch.save({"state_dict": module.state_dict(), **hparams_entries(module), **more}, path)
    return path


def test_all_arguments_are_kept_and_read_as_attributes_or_items() -> None:
    module = Sized(3, rate=0.5)
    assert dict(module.hparams) == {"width": 3, "rate": 0.5, "name": "small"}
    assert module.hparams.rate == module.hparams["rate"]
    with pytest.raises(AttributeError, match="no hyperparameter 'depth'"):
        _ = module.hparams.depth


def test_names_pick_and_ignore_leaves_out() -> None:
    assert dict(Named(4, secret=object()).hparams) == {"width": 4, "rate": 0.1}

    class Ignoring(BoringModel):
        def __init__(self, width: int = 2, net: Any = None) -> None:
            super().__init__()
            self.save_hyperparameters(ignore="net")

    assert dict(Ignoring().hparams) == {"width": 2}


def test_a_name_that_init_does_not_have_is_an_error_that_names_it() -> None:
    class Misspelt(BoringModel):
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters("widht")

    with pytest.raises(ConfigError, match=r"widht.*Known: width"):
        Misspelt()


@dataclass
class Settings:
    width: int = 2
    rate: float = 0.1


@pytest.mark.parametrize(
    "config",
    [
        {"width": 2, "rate": 0.1},
        Namespace(width=2, rate=0.1),
        Settings(),
        OmegaConf.create({"width": 2, "rate": 0.1}),
    ],
    ids=["dict", "namespace", "dataclass", "omegaconf"],
)
def test_a_whole_configuration_is_kept_and_given_back_under_its_argument(config: Any, tmp_path: Path) -> None:
    module = Config(config)
    assert dict(module.hparams) == {"width": 2, "rate": 0.1}
    assert module.hparams.width == 2
    again = Config.load_from_checkpoint(saved(module, tmp_path / "a.ckpt"))
    assert dict(again.hparams) == {"width": 2, "rate": 0.1}
    assert type(again.hparams) is type(module.hparams)


def test_nothing_to_keep_is_no_error_and_no_names_are() -> None:
    for nothing in ({}, None, Namespace()):
        assert dict(Config(nothing).hparams) == {}
    for nameless in (3, [1], (1, 2)):
        with pytest.raises(ConfigError, match="holds no names"):
            Config(nameless)


def test_a_subclass_adds_its_arguments_and_its_values_win() -> None:
    class Deep(Sized):
        def __init__(self, depth: int = 4, **kwargs: Any) -> None:
            super().__init__(width=7, **kwargs)

    assert dict(Deep(rate=0.3).hparams) == {"width": 7, "rate": 0.3, "name": "small", "depth": 4}

    class Dropping(Sized):
        def __init__(self, width: int = 2, rate: float = 0.1) -> None:
            super().__init__(width, rate=rate)
            self.save_hyperparameters(ignore=["rate"])

    assert dict(Dropping().hparams) == {"width": 2, "name": "small"}


def test_a_module_made_within_another_keeps_its_own_arguments_only() -> None:
    class Outer(BoringModel):
        def __init__(self, outer: int = 1) -> None:
            super().__init__()
            self.inner = Sized(5)
            self.save_hyperparameters()

    module = Outer()
    assert dict(module.hparams) == {"outer": 1}
    assert module.inner.hparams.width == 5


def test_a_dataclass_module_keeps_its_fields() -> None:
    @dataclass
    class Data(DataModule):
        path: str = "x"
        size: int = 3

        def __post_init__(self) -> None:
            self.save_hyperparameters()

    assert dict(Data(size=9).hparams) == {"path": "x", "size": 9}


def test_a_helper_may_pass_the_frame_of_init() -> None:
    import inspect

    class Helped(BoringModel):
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.remember(inspect.currentframe())

        def remember(self, frame: Any) -> None:
            self.save_hyperparameters(frame=frame)

    assert dict(Helped(6).hparams) == {"width": 6}


def test_outside_of_init_it_says_where_to_call_it() -> None:
    with pytest.raises(ConfigError, match="reads the arguments of __init__"):
        BoringModel().save_hyperparameters()


def test_what_was_kept_first_stays_and_what_is_kept_may_change() -> None:
    module = Sized(3)
    module.hparams.width = 8
    assert module.hparams_initial.width == 3
    module.hparams_initial.width = 0
    assert module.hparams_initial.width == 3


def test_an_nn_module_among_them_warns_and_names_the_fix() -> None:
    class Holding(BoringModel):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.save_hyperparameters()

    with pytest.warns(UserWarning, match=r"ignore=\['net'\]"):
        Holding(nn.Linear(1, 1))


def test_whether_loggers_get_them_is_remembered() -> None:
    class Quiet(BoringModel):
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters(logger=False)

    assert Quiet()._log_hyperparams is False
    assert Sized()._log_hyperparams is True


def test_a_command_line_gives_the_values_it_read_instead_of_the_objects() -> None:
    with given_hyperparameters(
        {"width": 2, "net": {"class_path": "Net"}}, "blixt.trainer.cli.instantiate_module"
    ):
        module = Sized()
    assert module.hparams.net == {"class_path": "Net"}
    assert module.hparams["_instantiator"] == "blixt.trainer.cli.instantiate_module"


def test_hyperparameters_copy_and_pickle_and_print_in_order() -> None:
    values = HParams(b=1, a="x")
    assert copy.deepcopy(values) == pickle.loads(pickle.dumps(values)) == values
    assert repr(values) == '"a": x\n"b": 1'
    del values.b
    assert values == {"a": "x"}


# --- load_from_checkpoint ---------------------------------------------------------------------------------


def test_a_module_comes_back_with_its_values_and_weights(tmp_path: Path) -> None:
    module = Sized(3, rate=0.5)
    again = Sized.load_from_checkpoint(saved(module, tmp_path / "a.ckpt"))
    assert again.hparams == module.hparams
    assert torch.equal(again.layer.weight, module.layer.weight)


def test_overrides_win_over_what_was_saved(tmp_path: Path) -> None:
    again = Sized.load_from_checkpoint(saved(Sized(3), tmp_path / "a.ckpt"), rate=0.9)
    assert (again.hparams.width, again.hparams.rate) == (3, 0.9)


def test_loading_leaves_the_random_numbers_as_they_were(tmp_path: Path) -> None:
    path = saved(Sized(3), tmp_path / "a.ckpt")
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    Sized.load_from_checkpoint(path)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("ending", ["yaml", "csv"])
def test_a_file_of_hyperparameters_stands_in_for_those_saved(ending: str, tmp_path: Path) -> None:
    path, values = saved(Sized(3), tmp_path / "a.ckpt"), tmp_path / f"hparams.{ending}"
    values.write_text("width: 3\nname: file\n" if ending == "yaml" else "key,value\nwidth,3\nname,file\n")
    assert Sized.load_from_checkpoint(path, hparams_file=values).hparams.name == "file"
    with pytest.raises(ConfigError, match=r"Use \.yaml or \.csv"):
        Sized.load_from_checkpoint(path, hparams_file=tmp_path / "hparams.txt")


def test_weights_that_do_not_fit_are_told_by_name_and_strict_false_takes_the_rest(tmp_path: Path) -> None:
    path = saved(Sized(), tmp_path / "a.ckpt")

    class More(Sized):
        def __init__(self, width: int = 2) -> None:
            super().__init__(width)
            self.head = nn.Linear(2, 2)

    with pytest.raises(CheckpointError, match=r"head\.weight"):
        More.load_from_checkpoint(path)
    with pytest.warns(UserWarning, match=r"head\.weight"):
        More.load_from_checkpoint(path, strict=False)


def test_strict_loading_of_the_module_is_the_default_and_must_not_be_contradicted(tmp_path: Path) -> None:
    path = saved(Sized(), tmp_path / "a.ckpt")

    class Lenient(Sized):
        def __init__(self, width: int = 2) -> None:
            super().__init__(width)
            self.head = nn.Linear(2, 2)
            self.strict_loading = False

    with pytest.warns(UserWarning, match=r"head\.weight"):
        Lenient.load_from_checkpoint(path)
    with pytest.raises(ConfigError, match="strict_loading is False"):
        Lenient.load_from_checkpoint(path, strict=True)


def test_layers_made_late_are_made_before_the_weights_come(tmp_path: Path) -> None:
    class Late(Module):
        def configure_model(self) -> None:
            self.layer = nn.Linear(2, 2)

    module = Late()
    module.configure_model()
    again = Late.load_from_checkpoint(saved(module, tmp_path / "a.ckpt"))
    assert torch.equal(again.layer.weight, module.layer.weight)


def test_called_on_an_instance_it_says_that_it_makes_a_new_object() -> None:
    with pytest.raises(TypeError, match=r"call it on the class, as Sized\.load_from_checkpoint"):
        Sized().load_from_checkpoint("x.ckpt")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("owned"),))


def test_a_hostile_file_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(Sized(), tmp_path / "a.ckpt", extra=Evil())
    for weights_only in (None, True):
        with pytest.raises(CheckpointError):
            Sized.load_from_checkpoint(path, weights_only=weights_only)
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "values", [{"_instantiator": "os.system"}, {"_instantiator": "subprocess.call", "width": 3}]
)
def test_a_function_that_a_file_names_is_not_looked_up(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": Sized().state_dict(), "hyper_parameters": values}, path)
    with pytest.raises(CheckpointError, match="Nothing was run"):
        Sized.load_from_checkpoint(path)


def test_a_class_that_was_never_imported_is_not_imported_for_a_file(tmp_path: Path) -> None:
    values = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "antigravity.Model"}
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": values}, path)
    with pytest.raises(CheckpointError, match="no imported subclass of Sized"):
        Sized.load_from_checkpoint(path)


def test_a_class_that_nested_values_ask_for_is_not_imported_either(tmp_path: Path) -> None:
    values = {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "name": [{"class_path": "antigravity.Anything", "init_args": {}}],
    }
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": values}, path)
    with pytest.raises(CheckpointError, match=r"'antigravity\.Anything', which has not been imported"):
        Sized.load_from_checkpoint(path)
    assert "antigravity" not in sys.modules


def test_a_module_that_a_command_line_made_comes_back(tmp_path: Path) -> None:
    values = {"width": 3, "rate": 0.5, "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": Sized(3).state_dict(), "hyper_parameters": values}, path)
    again = Sized.load_from_checkpoint(path)
    assert (again.layer.out_features, again.hparams.rate) == (3, 0.5)


def test_a_data_module_comes_back_with_its_values_and_state(tmp_path: Path) -> None:
    class Data(DataModule):
        def __init__(self, rows: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.position = 0

        def state_dict(self) -> dict[str, Any]:
            return {"position": self.position}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.position = state_dict["position"]

    data = Data(8)
    entries = hparams_entries(data)
    assert entries["datamodule_hyper_parameters"] == {"rows": 8}
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}, **entries, Data.__qualname__: {"position": 6}}, path)
    again = Data.load_from_checkpoint(path)
    assert (again.hparams.rows, again.position) == (8, 6)
