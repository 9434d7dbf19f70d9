"""Three stages with workers of their own: text is cut on CPUs, scored in batches, and worded again.

python examples/serve/pipeline.py
curl -d '"what a lovely, lovely day"' http://127.0.0.1:8000/mood
"""

import re
import sys

from blixt.serve import API, Pipeline, Server

GOOD = frozenset({"good", "lovely", "happy", "fast", "clear"})
BAD = frozenset({"bad", "ugly", "sad", "slow", "broken"})


class Cut(API):
    """CPU work before the model."""

    def predict(self, text: str) -> list[str]:
        return re.findall(r"[a-z']+", text.lower())


class Score(API):
    """Where a GPU model would be: one call for a whole batch."""

    max_batch_size = 32
    batch_timeout_s = 0.002

    def predict(self, batch: list[list[str]]) -> list[int]:
        return [sum((word in GOOD) - (word in BAD) for word in words) for words in batch]


class Say(API):
    """CPU work after the model."""

    def predict(self, score: int) -> dict[str, str | int]:
        return {"score": score, "mood": "good" if score > 0 else "bad" if score < 0 else "even"}


if __name__ == "__main__":
    stages = Pipeline([Cut(), Score(), Say()], workers=[2, 1, 1], api_path="/mood")
    Server(stages).run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
