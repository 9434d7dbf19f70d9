"""A conversation in the terminal: through a pipe, on a real pseudo-terminal, and with a server."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from blixt.llm import GPT, LLM, ChatAPI, LLMError, PromptError, Tokenizer, chat, generate, save_checkpoint
from blixt.llm.terminal_chat import Conversation, Left, command
from blixt.llm.terminal_screen import split_blocks
from blixt.serve import Server
from blixt.serve.testing import RunningServer, running


@pytest.fixture(scope="module")
def checkpoint(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch):
    """Lets a test say lines on standard input."""
    return lambda *lines: monkeypatch.setattr(
        "sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines))
    )


def test_generate_gives_the_continuation_in_pieces(checkpoint: Path) -> None:
    pieces = list(generate(str(checkpoint), "import", max_tokens=10, temperature=0))
    assert len(pieces) > 1
    assert "".join(pieces) == LLM.load(checkpoint).generate("import", max_tokens=10, temperature=0).text


def test_a_pipe_gets_an_answer_for_each_line_and_the_model_remembers(
    checkpoint: Path, said, capsys: pytest.CaptureFixture[str]
) -> None:
    said("import json", "", "import re")
    chat(str(checkpoint), max_tokens=5, temperature=0)
    llm = LLM.load(checkpoint)
    first = llm.generate("import json", max_tokens=5, temperature=0).text
    second = llm.generate(f"import json\n{first}\nimport re", max_tokens=5, temperature=0).text
    assert capsys.readouterr().out == f"{first}\n{second}\n"


def test_a_line_longer_than_the_context_allows_is_refused(checkpoint: Path, said) -> None:
    said("x y " * 200)
    with pytest.raises(PromptError, match="32 tokens"):
        chat(str(checkpoint))


def test_the_oldest_messages_are_left_out_when_the_rest_no_longer_fits(
    checkpoint: Path, said, capsys: pytest.CaptureFixture[str]
) -> None:
    said(*["import json, re, os"] * 6)
    chat(str(checkpoint), max_tokens=6, temperature=0)
    assert len(capsys.readouterr().out.splitlines()) >= 6


def test_several_lines_are_one_message(checkpoint: Path, said, capsys: pytest.CaptureFixture[str]) -> None:
    said('"""', "def f(x):", "    return x", '"""', "/history", "a\\", "b", "/history")
    chat(str(checkpoint), max_tokens=2, temperature=0, system="SYS")
    notes = capsys.readouterr().err
    assert "system: SYS\nuser: def f(x):\n    return x\nassistant: " in notes
    assert "user: a\nb\n" in notes


def test_commands_change_the_conversation(tmp_path: Path) -> None:
    talk = Conversation("first", {"temperature": 0.5})
    talk.ask("one")
    talk.hear("two")
    assert command(talk, "/set top_k 5") == "top_k = 5"
    assert command(talk, "/set") == "temperature = 0.5\ntop_k = 5"
    assert command(talk, "/set temperature") == "temperature is unset."
    command(talk, f"/save {tmp_path}/talk.json")
    assert command(talk, "/undo") == "Taken back: one"
    assert talk.messages == [{"role": "system", "content": "first"}]
    command(talk, "/system")
    assert talk.messages == []
    assert command(talk, f"/load {tmp_path}/talk.json") == "Loaded 2 messages."
    assert [message["content"] for message in talk.messages] == ["first", "one", "two"]
    assert talk.settings == {"top_k": 5}
    command(talk, "/reset")
    assert talk.messages == [{"role": "system", "content": "first"}]
    with pytest.raises(Left):
        command(talk, "/exit")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/nonsense", "no command /nonsense"),
        ("/set zzz 1", "no setting 'zzz'"),
        ("/set messages []", "no setting 'messages'"),
        ("/save", "needs the name"),
        ("/load /nowhere.json", "holds no conversation"),
    ],
)
def test_a_command_that_does_not_go_is_explained(line: str, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        command(Conversation(), line)


def test_complete_blocks_of_markdown_are_told_from_the_growing_one() -> None:
    assert split_blocks("# A\n\ntext\n\n- b") == ("# A\n\ntext\n\n", "- b")
    assert split_blocks("```py\na\n\nb") == ("", "```py\na\n\nb")
    assert split_blocks("```py\na\n\nb\n```\n\nc") == ("```py\na\n\nb\n```\n\n", "c")


@pytest.fixture(autouse=True, scope="module")
def _one_thread_a_process() -> Iterator[None]:
    """Processes share the machine with other tests; threads that wait for each other would crawl."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def terminal(checkpoint: Path) -> Iterator[pexpect.spawn]:
    """`blixt llm chat` on a pseudo-terminal."""
    words = ["llm", "chat", str(checkpoint), "--max-tokens", "6", "--temperature", "0"]
    program = str(Path(sys.executable).with_name("blixt"))
    child = pexpect.spawn(program, words, encoding="utf-8", timeout=240, dimensions=(24, 100))
    child.expect("/help lists commands")
    yield child
    child.close(force=True)


def test_a_terminal_shows_answers_takes_commands_and_survives_ctrl_c(terminal: pexpect.spawn) -> None:
    terminal.expect("> ")
    terminal.sendline("import json")
    terminal.expect("> ")
    terminal.sendline("/history")
    terminal.expect("user: import json")
    terminal.expect("assistant: ")
    terminal.sendline("/set zzz 1")
    terminal.expect("no setting 'zzz'")
    terminal.expect("> ")
    terminal.sendintr()
    terminal.expect("Ctrl-D or /exit ends")
    terminal.sendline("/exit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[RunningServer]:
    with running(Server(ChatAPI(checkpoint, "source"), devices=1, accelerator="cpu")) as place:
        yield place


def test_a_server_answers_as_the_model_here_does(
    checkpoint: Path, server: RunningServer, said, capsys: pytest.CaptureFixture[str]
) -> None:
    said("import json", "import re")
    chat(server.url, max_tokens=5, temperature=0)
    there = capsys.readouterr().out
    said("import json", "import re")
    chat(str(checkpoint), max_tokens=5, temperature=0)
    assert there == capsys.readouterr().out


def test_what_a_server_refuses_and_who_is_no_server_is_said(server: RunningServer, said) -> None:
    said("x " * 200)
    with pytest.raises(PromptError, match="too many"):
        chat(server.url)
    with pytest.raises(LLMError, match="no model 'other'"):
        chat(server.url, model_name="other")
    with pytest.raises(LLMError, match="not a server"):
        chat("http://127.0.0.1:9")


def test_ctrl_c_during_an_answer_stops_it_and_keeps_what_was_said(
    monkeypatch: pytest.MonkeyPatch, said, capsys: pytest.CaptureFixture[str]
) -> None:
    import signal

    from blixt.llm.terminal_chat import talk
    from blixt.llm.terminal_model import Said
    from blixt.llm.terminal_screen import PlainScreen

    class Endless:
        name = "endless"
        closed = False

        def fits(self, messages):
            return None

        def answer(self, messages, settings):
            try:
                for count in range(1000):
                    if count == 3:
                        signal.raise_signal(signal.SIGINT)
                    yield Said("content", f"{count} ")
            finally:
                self.closed = True

    said("go", "/history")
    partner = Endless()
    talk(partner, Conversation(), PlainScreen(sys.stdout), interactive=False)
    out = capsys.readouterr()
    assert out.out == "0 1 2 3 \n"
    assert "assistant: 0 1 2 3" in out.err
    assert partner.closed


def test_a_saved_conversation_is_plain_json(tmp_path: Path) -> None:
    talk = Conversation()
    talk.ask("日本")
    talk.save(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["messages"] == [{"role": "user", "content": "日本"}]
