"""The soak of `make soak`, for a few seconds."""

from soak.serve import soak


def test_a_short_soak_answers_everything_and_leaks_nothing():
    report = soak(seconds=6)
    assert report["answers"]["plain 200"] > 0
    assert report["answers"]["stream 200"] > 0
