import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from blixt.client.lines import Event, iter_events, iter_lines, iter_ndjson


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in pieces of these sizes, the rest in one."""
    for size in sizes:
        piece, data = data[:size], data[size:]
        yield piece
    yield data


@given(st.lists(st.dictionaries(st.text(), st.text(), min_size=1)), st.lists(st.integers(0, 7)))
def test_objects_arrive_whole_however_the_bytes_are_cut(
    objects: list[dict[str, str]], sizes: list[int]
) -> None:
    data = b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in objects)
    assert list(iter_ndjson(cut(data, sizes))) == objects


def test_only_line_feeds_end_a_line() -> None:
    assert list(iter_lines(["a\u2028b\x0cc\n".encode(), b"d"])) == ["a\u2028b\x0cc", "d"]


@given(st.lists(st.tuples(st.integers(0), st.text())), st.lists(st.integers(0, 9)))
def test_events_arrive_whole_however_the_bytes_are_cut(
    texts: list[tuple[int, str]], sizes: list[int]
) -> None:
    stream = b": hello\n\n" + b"".join(
        f"id: {number}\nevent: log\ndata: {json.dumps(text, ensure_ascii=False)}\n\n: keep-alive\n\n".encode()
        for number, text in texts
    )
    expected = [Event("log", str(number), text) for number, text in texts]
    assert list(iter_events(cut(stream, sizes))) == expected


def test_data_on_several_lines_is_one_value() -> None:
    assert list(iter_events([b"data: [1,\r\ndata: 2]\r\n\r\n"])) == [Event("message", "", [1, 2])]


def test_an_unfinished_event_is_dropped() -> None:
    assert list(iter_events([b"data: 1\n\ndata: 2\n"])) == [Event("message", "", 1)]
