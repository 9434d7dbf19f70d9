"""The examples of preference training and of training on rewards, as they are, on a small model."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tests.llm.recipes.small import small_model

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
EXAMPLES = Path(__file__).parents[3] / "examples" / "llm"
CALLS = {
    "dpo.py": (["--pairs", "20"], r"20 pairs; held out: margin 0\.000 -> -?\d\.\d+, \d+% in the right order"),
    "grpo.py": (
        ["--steps", "1", "--prompts", "2", "--group", "2", "--max-tokens", "4"],
        r"mean reward on other questions: \d\.\d\d -> \d\.\d\d",
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    found = small_model(tmp_path_factory.mktemp("model"), context=256)
    (found / "chat_template.jinja").write_text(TEMPLATE)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_the_example_runs(
    name: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, said = CALLS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--model", str(model), *options])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert re.search(said, capsys.readouterr().out)
    assert not list(tmp_path.iterdir())
