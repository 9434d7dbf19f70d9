"""OpenAI's API in front of a language model of forty lines: a Markov chain over words, seeded by the request.

python examples/serve/openai_markov.py
Then, with the official client:

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
    for chunk in client.completions.create(model="markov", prompt="the", max_tokens=12, seed=1, stream=True):
        print(chunk.choices[0].text, end="")
"""

import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from blixt.serve import API, ChatRequest, CompletionRequest, HTTPError, OpenAISpec, Piece, Server

TEXT = """the lightning walks over the hill and the hill answers the lightning with thunder
the thunder walks over the sea and the sea answers the thunder with rain"""


class Markov(API):
    def setup(self, device: str) -> None:
        self.after: dict[str, list[str]] = defaultdict(list)
        words = TEXT.split()
        for word, following in pairwise(words):
            self.after[word].append(following)

    def predict(self, request: ChatRequest | CompletionRequest) -> Iterator[str | Piece]:
        text = request.messages[-1].text if isinstance(request, ChatRequest) else request.prompt
        if not isinstance(text, str):
            raise HTTPError(400, "This model reads text, not token ids.")
        words = text.split()
        yield Piece(prompt_tokens=len(words), tokens=0)
        choose = random.Random(request.seed)
        word = words[-1] if words else "the"
        while self.after.get(word):  # a stop string, max_tokens or the client's leaving ends this too
            word = choose.choice(self.after[word])
            yield f" {word}"


if __name__ == "__main__":
    server = Server(Markov(spec=OpenAISpec(model="markov", max_tokens=64)))
    server.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
