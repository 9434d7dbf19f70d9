import io
from pathlib import Path

import pytest

from blixt.llm import GPT, LLM, PromptError, Tokenizer, chat, generate, save_checkpoint


@pytest.fixture
def checkpoint(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_checkpoint(model, tmp_path)
    tokenizer.save(tmp_path)
    return tmp_path


def test_generate_gives_the_continuation_in_pieces(checkpoint: Path) -> None:
    pieces = list(generate(str(checkpoint), "import", max_tokens=10, temperature=0))
    assert len(pieces) > 1
    assert "".join(pieces) == LLM.load(checkpoint).generate("import", max_tokens=10, temperature=0).text


def test_chat_answers_each_line_and_remembers_what_was_said(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("import json\n\nimport re\n"))
    chat(str(checkpoint), max_tokens=5, temperature=0)
    llm = LLM.load(checkpoint)
    first = llm.generate("import json", max_tokens=5, temperature=0).text
    second = llm.generate(f"import json\n{first}\nimport re", max_tokens=5, temperature=0).text
    assert capsys.readouterr().out == f"{first}\n{second}\n"


def test_a_line_longer_than_the_context_allows_is_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x y " * 200 + "\n"))
    with pytest.raises(PromptError, match="32 tokens"):
        chat(str(checkpoint))
