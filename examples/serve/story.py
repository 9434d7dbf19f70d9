"""Text generation with streaming: a character model of the Python reference, one event a character.

python examples/serve/story.py
curl -N -d '{"prompt": "The ", "characters": 60, "seed": 1}' http://127.0.0.1:8000/write
"""

import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pydoc_data.topics import topics

import msgspec

from blixt.serve import API, Server

ORDER = 6
"""How many characters the model looks back."""
SIZE = 100_000
"""How many characters it has read."""


class Prompt(msgspec.Struct):
    prompt: str
    characters: int = 200
    seed: int | None = None


class Writer(API):
    api_path = "/write"
    stream = True

    def setup(self, device: str) -> None:
        text = "".join(topics.values())[:SIZE]  # what `help("topics")` reads from
        self.after: dict[str, list[str]] = defaultdict(list)
        for start in range(len(text) - ORDER):
            for length in range(1, ORDER + 1):
                self.after[text[start + ORDER - length : start + ORDER]].append(text[start + ORDER])

    def predict(self, request: Prompt) -> Iterator[str]:
        choose = random.Random(request.seed)
        text = request.prompt
        for _ in range(request.characters):
            text += choose.choice(self.following(text))
            yield text[-1]

    def following(self, text: str) -> list[str]:
        """What came after the longest end of the text that the model has seen."""
        for length in range(ORDER, 0, -1):
            if self.after.get(text[-length:]):
                return self.after[text[-length:]]
        return [" "]


if __name__ == "__main__":
    Server(Writer()).run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
