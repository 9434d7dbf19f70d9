"""Logs on the server: offsets over attempts, followers, and text that never cuts a character."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.hub import LogStore, Tail
from blixt.cloud.hub.tail import whole_characters


def test_offsets_run_on_over_attempts(tmp_path: Path) -> None:
    logs = LogStore(tmp_path)
    logs.file("u", "0", 1).write_bytes(b"first\n")
    logs.file("u", "0", 2).write_bytes(b"second\n")
    assert logs.read("u", "0", 0, 100) == b"first\n"
    assert logs.read("u", "0", 6, 100) == b"second\n"
    assert logs.read("u", "0", 8, 3) == b"con"
    assert logs.read("u", "0", 13, 100) == b""
    assert (logs.total("u", "0"), logs.size("u", "0", 2), logs.parts("u")) == (13, 7, ["0"])


def test_the_tail_is_short_and_on_one_line(tmp_path: Path) -> None:
    logs = LogStore(tmp_path)
    logs.file("u", "0", 1).write_bytes(b"".join(b"line %d\n" % i for i in range(100)))
    assert logs.tail("u", "0") == "line 97 | line 98 | line 99"
    assert logs.tail("u", "nothing") == ""


@given(st.text(max_size=30), st.integers(0, 8))
def test_whole_characters_never_cut_and_never_lose(text: str, cut: int) -> None:
    data = text.encode()[: max(0, len(text.encode()) - cut)]
    whole = whole_characters(data)
    whole.decode()
    assert data.startswith(whole)
    assert len(data) - len(whole) < 4


def test_broken_text_is_given_as_it_is() -> None:
    assert whole_characters(b"\xff\xfe\x80\x80\x80\x80") == b"\xff\xfe\x80\x80\x80\x80"


@pytest.mark.anyio
async def test_a_follower_sees_everything_and_then_the_end(tmp_path: Path) -> None:
    logs = LogStore(tmp_path)
    file, over = logs.file("u", "0", 1), False
    tail = Tail(logs, "u", {"0": 0})

    async def ended() -> bool:
        return over

    async def write() -> None:
        nonlocal over
        for piece in (b"a\n", "é".encode()[:1], "é\n".encode()[1:]):
            with file.open("ab") as log:
                log.write(piece)
            logs.grew("u")
            await asyncio.sleep(0)
        over = True
        logs.grew("u")

    writing = asyncio.create_task(write())
    text, offsets = "", {}
    async for pieces in tail.follow(ended, 5):
        for piece in pieces:
            text += piece.text
            offsets = piece.offsets
    await writing
    assert text == "a\né\n"
    assert offsets == {"0": 5}
