"""Log-probabilities in the shapes of chat and of completions. Pure."""

from collections.abc import Sequence
from typing import Any

from blixt.serve.specs.openai_types import TokenLogprob


def chat_logprobs(tokens: Sequence[TokenLogprob], top: int) -> dict[str, Any]:
    """As `/v1/chat/completions` tells them, with the `top` likeliest tokens of each place."""
    return {"content": token_logprobs(tokens, top), "refusal": None}


def token_logprobs(tokens: Sequence[TokenLogprob], top: int) -> list[dict[str, Any]]:
    """A list of tokens, each with its alternatives."""
    return [{**_one(token), "top_logprobs": [_one(other) for other in token.top[:top]]} for token in tokens]


def completion_logprobs(tokens: Sequence[TokenLogprob], top: int, offset: int) -> dict[str, Any]:
    """As `/v1/completions` tells them: columns; `offset` is where the first token begins in the text."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            None if token.logprob is None else {other.token: other.logprob for other in token.top[:top]}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def _one(token: TokenLogprob) -> dict[str, Any]:
    raw = list(token.token.encode()) if token.bytes is None else token.bytes
    return {"token": token.token, "logprob": token.logprob, "bytes": raw}
