"""The door itself: which names it gives, how it refuses the others, and who finds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from blixt.compat.lightning import finder, folder
from blixt.compat.lightning.names import gone, lookup

PYTHON = sys.executable


def run(*words: str, cwd: Path | None = None, door: bool = True) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-m", "blixt.compat.lightning", *words] if door else [PYTHON, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One script through the door does what several tests look at; processes are dear."""
    place = tmp_path_factory.mktemp("door")
    (place / "beside.py").write_text("VALUE = 7\n")
    (place / "child.py").write_text("import pytorch_lightning as pl; print('child', pl.Trainer.__module__)\n")
    (place / "script.py").write_text(
        """
import multiprocessing, subprocess, sys

import beside
import lightning as L
import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from pytorch_lightning import LightningModule
from lightning_fabric import Fabric


def spawned(queue):
    import lightning.fabric

    queue.put(lightning.fabric.Fabric.__module__)


if __name__ == "__main__":
    print("argv", sys.argv[1:], beside.VALUE, __name__)
    print("same", LightningModule is L.LightningModule is pl.LightningModule, L.__version__)
    print("ours", ModelCheckpoint.__module__, Fabric is L.Fabric, pl.callbacks.EarlyStopping is not None)
    files = [str(getattr(module, "__file__", "")) for module in list(sys.modules.values())]
    print("no real one", not any("site-packages/lightning" in file for file in files))
    print(subprocess.run([sys.executable, "child.py"], capture_output=True, text=True).stdout.strip())
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=spawned, args=(queue,))
    process.start()
    print("spawned", queue.get(timeout=240))
    process.join()
"""
    )
    done = run("script.py", "--a", "1", cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_script_runs_with_its_arguments_and_its_neighbours(said: list[str]) -> None:
    assert "argv ['--a', '1'] 7 __main__" in said


def test_the_three_packages_give_the_same_classes(said: list[str]) -> None:
    assert f"same True {finder.VERSION}" in said
    assert "ours blixt.trainer.callbacks.checkpoint True True" in said


def test_lightning_itself_is_not_loaded(said: list[str]) -> None:
    assert "no real one True" in said


def test_processes_that_the_script_starts_find_the_names(said: list[str]) -> None:
    assert "child blixt.compat.lightning.own.trainer" in said
    assert "spawned blixt.compat.lightning.own.gathering" in said


def test_the_path_for_pythonpath_is_printed_and_holds_the_three_packages() -> None:
    place = Path(run("--path").stdout.strip())
    assert place == folder()
    assert {item.name for item in place.iterdir() if item.name != "__pycache__"} == set(finder.PACKAGES)


def test_a_missing_script_is_named() -> None:
    done = run("nothing.py")
    assert done.returncode != 0
    assert "there is no file 'nothing.py'" in done.stderr


def test_names_that_do_not_exist_say_what_to_use() -> None:
    finder_ = finder.LightningFinder()
    with pytest.raises(ModuleNotFoundError, match="WandbLogger"):
        finder_.find_spec("pytorch_lightning.loggers.NeptuneLogger")
    with pytest.raises(ModuleNotFoundError, match="did you mean 'ModelCheckpoint'"):
        finder_.find_spec("lightning.pytorch.callbacks.ModelCheckpont")
    with pytest.raises(ModuleNotFoundError, match="private in Lightning"):
        finder_.find_spec("lightning.pytorch.trainer.connectors.data_connector")
    with pytest.raises(ModuleNotFoundError, match="TPU"):
        finder_.find_spec("lightning.pytorch.strategies.XLAStrategy")
    assert finder_.find_spec("numpy") is None


def test_hasattr_of_a_missing_name_is_false() -> None:
    module = finder.LightningFinder().create_module(
        finder.LightningFinder().find_spec("lightning.pytorch.callbacks")  # type: ignore[arg-type]
    )
    finder.LightningFinder().exec_module(module)
    assert not hasattr(module, "Nothing")
    assert "ModelCheckpoint" in dir(module)
    assert "early_stopping" in dir(module)


@pytest.mark.parametrize("tree", ["lightning.pytorch", "lightning.fabric"])
def test_every_name_of_the_tables_resolves(tree: str) -> None:
    table = lookup.PYTORCH if tree == "lightning.pytorch" else lookup.FABRIC
    missing: list[str] = []
    for path in table:
        module = f"{tree}.{path}" if path else tree
        for name in lookup.public_names(module):
            target = lookup.target(module, name)
            assert target is not None
            try:
                lookup.load(module, name, target)
            except ImportError as error:
                missing.append(str(error))
    assert missing == []


def test_every_sentence_of_the_missing_names_is_whole() -> None:
    for name, reason in gone.NAMES.items():
        sentence = gone.sentence("lightning.pytorch", name)
        assert reason in sentence
        assert sentence.endswith(".")


def test_installing_after_the_real_lightning_is_refused() -> None:
    done = run("-c", "import lightning; from blixt.compat.lightning import install; install()", door=False)
    assert "imported already" in done.stderr


def test_an_error_class_of_lightning_catches_ours() -> None:
    done = run(
        "-c",
        "from blixt.compat.lightning import install; install()\n"
        "from lightning.pytorch.utilities.exceptions import MisconfigurationException\n"
        "from lightning.pytorch import Trainer\n"
        "try: Trainer(max_epochs=-7)\n"
        "except MisconfigurationException as error: print('caught', error)\n",
        door=False,
    )
    assert "caught Trainer(max_epochs=-7)" in done.stdout, done.stderr
