"""What the command line says before it needs anything: help, versions, mistakes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from blixt.cli.commands import COMMANDS
from blixt.cli.main import complete_app
from client.server import blixt


def test_help_lists_every_command_and_imports_nothing_heavy(record_property: object) -> None:
    code = (
        "import sys; from blixt.cli.main import run_command_line; run_command_line(['--help']); "
        "heavy = {'typer', 'rich', 'httpx', 'torch', 'websockets', 'fastapi'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    record_property("help_s", time.perf_counter() - began)  # type: ignore[operator]
    assert all(name in done.stdout for name in COMMANDS)


def test_importing_blixt_or_its_sdk_loads_no_torch() -> None:
    code = (
        "import sys, blixt; assert not {'torch', 'httpx', 'typer'} & set(sys.modules); "
        "import blixt.client; assert 'torch' not in sys.modules; "
        "assert not [name for name in sys.modules if name.startswith('blixt.cloud')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    import typer.testing

    done = typer.testing.CliRunner().invoke(complete_app(), [name, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.stdout


def test_the_version_is_said() -> None:
    assert blixt("--version").stdout.startswith("blixt 0.")


def test_without_a_word_the_help_is_shown() -> None:
    assert "Usage:" in blixt().stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["jobb"], "Did you mean `blixt job`?"),
        (["stduio", "list"], "Did you mean `blixt studio`?"),
        (["xyzzy"], "`blixt --help` lists the commands."),
    ],
)
def test_an_unknown_command_suggests_the_nearest(words: list[str], hint: str) -> None:
    done = blixt(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: There is no command {words[0]!r}.\nhint: {hint}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["job", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["run"], "Missing argument"),
        (["run", "--no-such"], "No such option: --no-such"),
        (["deploy", "x"], "There is nothing to deploy."),
        (["up", "--port", "99999"], "The port 99999 is not between 0 and 65535."),
        (["up", "--port", "http"], "Invalid value for '--port'"),
        (["budget", "set", "--", "-1"], "Invalid value"),
        (["model", "download", "m", "--version", "newest"], "'newest' is no version."),
        (["run", "--env", "novalue", "--no-source", "--", "true"], "--env 'novalue' is not KEY=VALUE."),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(words: list[str], sentence: str) -> None:
    done = blixt(*words, env={"BLIXT_URL": "http://127.0.0.1:9", "BLIXT_TOKEN": "x"})
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_no_server_says_how_to_get_one() -> None:
    done = blixt("job", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("error: No blixt server is known.\nhint: Start one with `blixt up`")


def test_a_server_that_does_not_answer_is_named() -> None:
    done = blixt("whoami", env={"BLIXT_URL": "http://127.0.0.1:9", "BLIXT_TOKEN": "x"})
    assert done.returncode == 1
    assert "No blixt server answers at http://127.0.0.1:9 (known from BLIXT_URL)." in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = blixt("job", "list", env={"BLIXT_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizers.py").write_text("raise ModuleNotFoundError('no tokenizers', name='tokenizers')")
    (tmp_path / "text.py").write_text("print('hello')\n" * 50)
    done = blixt("llm", "train-tokenizer", "text.py", env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode == 1
    assert "This needs blixt[llm] (the module 'tokenizers' is not installed)." in done.stderr
    assert "hint: pip install 'blixt[llm]'" in done.stderr


def test_shell_completion_knows_the_commands() -> None:
    done = blixt(env={"_BLIXT_COMPLETE": "complete_bash", "COMP_WORDS": "blixt studio st", "COMP_CWORD": "2"})
    assert done.stdout.split() == ["start", "stop"]
