"""Server-sent events, however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve.client.events import Event, EventReader

TEXT = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=20)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["", "error"]), st.lists(TEXT, min_size=1, max_size=3)), max_size=5
)


@given(EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_any_cut_and_line_ending_gives_the_same_events(events, ending, data):
    lines = []
    for name, values in events:
        lines += [f"event: {name}"] if name else []
        lines += [f"data: {value}" for value in values] + [": a comment", ""]
    raw = "".join(line + ending for line in lines).encode()
    reader, got, at = EventReader(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, 7))
        got += reader.feed(raw[at : at + size])
        at += size
    # A carriage return at the very end may be half of a line ending, so one more byte settles it.
    got += reader.feed(b"\n" if ending == "\r" else b"")
    assert got == [Event(name, "\n".join(values)) for name, values in events]


def test_an_event_without_data_is_none():
    assert EventReader().feed(b"event: ping\n\n: hello\n\nid: 3\n\n") == []


def test_an_endless_event_is_refused():
    reader = EventReader(max_event_bytes=100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        reader.feed(b"data: " + b"x" * 200)
