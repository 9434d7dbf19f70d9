import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.serve.wire import FrameReader, Kind, WireError, decode, encode

messages = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.sampled_from(sorted(Kind)).map(int), st.binary(max_size=200)),
    max_size=20,
)


@given(messages, st.integers(0, 2**32 - 1))
def test_a_frame_decodes_to_the_messages_it_was_made_of(sent, busy_us):
    (frame,) = FrameReader().feed(encode(sent, busy_us))
    assert frame.busy_us == busy_us
    assert frame.messages == [tuple(message) for message in sent]


@given(st.lists(messages, max_size=5), st.data())
def test_any_chunking_of_the_stream_gives_the_same_frames(frames, data):
    stream = b"".join(encode(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert [frame.messages for frame in got] == [[tuple(m) for m in frame] for frame in frames]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_frame_raise_a_wire_error_and_nothing_else(body):
    try:
        frame = decode(body)
    except WireError:
        return
    assert encode(frame.messages, frame.busy_us)[4:] == body


def test_one_byte_at_a_time_is_enough():
    reader = FrameReader()
    stream = encode([(7, Kind.REQUEST, b"hello")], 3) + encode([])
    frames = [frame for i in range(len(stream)) for frame in reader.feed(stream[i : i + 1])]
    assert [(f.busy_us, f.messages) for f in frames] == [(3, [(7, Kind.REQUEST, b"hello")]), (0, [])]


def test_a_huge_busy_time_is_capped_rather_than_refused():
    (frame,) = FrameReader().feed(encode([], 2**40))
    assert frame.busy_us == 2**32 - 1


def test_too_many_messages_are_refused():
    with pytest.raises(WireError, match="several frames"):
        encode([(0, Kind.OK, b"")] * 65_536)
