from hypothesis import given
from hypothesis import strategies as st

from blixt.serve import StopFilter

text = st.text(alphabet="abc", max_size=30)


@given(st.lists(text, max_size=8), st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3))
def test_however_the_text_is_cut_the_result_ends_before_the_first_stop(pieces, stops):
    filter = StopFilter(stops)
    sent = ""
    for piece in pieces:
        sent += filter.feed(piece)
        if filter.hit:
            break
    else:
        sent += filter.rest()
    whole = "".join(pieces)
    found = [whole.find(stop) for stop in stops if stop in whole]
    assert filter.hit == bool(found)
    if not found:
        assert sent == whole
    else:
        # The first stop to be complete wins, so the text may end later than the earliest overlapping one.
        assert whole.startswith(sent)
        assert not any(stop in sent for stop in stops)


def test_text_that_cannot_begin_a_stop_is_sent_at_once():
    assert StopFilter(["###"]).feed("hello") == "hello"
