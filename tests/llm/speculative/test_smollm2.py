"""Guesses on a real model: the same text in fewer steps."""

from tests.llm.smollm2 import CONTINUATIONS, smollm2_dir

from blixt.llm.api import LLM

REPEATS = "Repeat this code exactly:\n```python\ndef add(a, b):\n    return a + b\n```\n\n```python\ndef add"


def test_guessing_from_the_text_so_far_saves_steps_and_changes_nothing() -> None:
    prompts = [REPEATS, *CONTINUATIONS]
    plain = LLM.load(smollm2_dir(), context=256)
    wanted = plain.generate(prompts, max_tokens=16, temperature=0)
    guessing = LLM.load(smollm2_dir(), context=256, speculate="ngram")
    found = guessing.generate(prompts, max_tokens=16, temperature=0)
    assert [one.text for one in found] == [one.text for one in wanted]
    assert [one.text for one in found[1:]] == list(CONTINUATIONS.values())
    stats = guessing.engine.stats().speculation
    assert stats is not None
    assert stats.accepted > 0
