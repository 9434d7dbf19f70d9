"""What proposers guess, from tokens alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.llm.engine.speculative import NgramProposer, SpeculationStats
from blixt.llm.errors import ConfigError


def guess(proposer: NgramProposer, tokens: list[int], limit: int = 8, uid: str = "a") -> list[int]:
    return proposer.propose_batch([(uid, tokens, limit)])[0].tokens


def test_what_followed_the_last_tokens_before_is_guessed() -> None:
    assert guess(NgramProposer(k=3), [1, 2, 3, 4, 5, 9, 2, 3]) == [4, 5, 9]


def test_the_longest_recurring_run_wins_and_the_latest_of_its_places() -> None:
    assert guess(NgramProposer(k=1), [1, 2, 3, 7, 2, 3, 8, 1, 2, 3]) == [7]
    assert guess(NgramProposer(k=1), [2, 3, 7, 0, 2, 3, 8, 0, 2, 3]) == [8]


def test_a_text_that_repeats_is_guessed_as_going_on_repeating() -> None:
    assert guess(NgramProposer(k=7), [1, 2, 3, 1, 2, 3]) == [1, 2, 3, 1, 2, 3, 1]


def test_nothing_is_guessed_where_nothing_recurs() -> None:
    assert guess(NgramProposer(), [1, 2, 3, 4]) == []
    assert guess(NgramProposer(), [1]) == []


def test_a_limit_is_kept() -> None:
    assert guess(NgramProposer(k=4), [1, 2, 1, 2, 1, 2], limit=1) == [1]
    assert guess(NgramProposer(k=4), [1, 2, 1, 2, 1, 2], limit=0) == []


def test_wrong_guesses_make_the_next_shorter_and_right_ones_longer_again() -> None:
    proposer = NgramProposer(k=4)
    tokens = [1, 2, 3, 4, 5, 6, 1, 2]
    assert len(guess(proposer, tokens)) == 4
    tokens += [9, 1, 2]  # not 3
    assert len(guess(proposer, tokens)) == 2
    tokens += guess(proposer, tokens)
    assert len(guess(proposer, tokens)) == 4


def test_requests_do_not_see_each_other() -> None:
    proposer = NgramProposer(k=1)
    guess(proposer, [1, 2, 3], uid="a")
    assert guess(proposer, [1, 2], uid="b") == []
    proposer.forget("a")
    assert guess(proposer, [1, 2], uid="a") == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 5))
def test_indexing_bit_by_bit_guesses_the_same_as_all_at_once(tokens: list[int], step: int) -> None:
    slowly, at_once = NgramProposer(k=4), NgramProposer(k=4)
    for end in range(1, len(tokens), step):
        slowly._index(slowly._requests.setdefault("a", _seen(slowly)), tokens[:end])
    assert guess(slowly, tokens) == guess(at_once, tokens)


def _seen(proposer: NgramProposer) -> object:
    fresh = NgramProposer(k=4)
    fresh.propose_batch([("a", [], 0)])
    return fresh._requests["a"]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="shortest"):
        NgramProposer(longest=1, shortest=2)


def test_statistics_add_up() -> None:
    stats = SpeculationStats()
    assert (stats.rate, stats.tokens_per_step) == (0.0, 1.0)
    stats.add(4, 3)
    stats.add(4, 0)
    assert (stats.rate, stats.tokens_per_step) == (3 / 8, 2.5)
