"""One request's pieces: what the engine tells, as the client gets it."""

from collections.abc import Sequence
from typing import Any

import pytest

from blixt.llm.chat.answers import AnswerKind, AnswerParser
from blixt.llm.engine.request import TokenLogprob, Update
from blixt.llm.server.prompt import Prepared
from blixt.llm.server.requests import ChatBody
from blixt.llm.server.turn import Turn
from blixt.llm.tokenizer import Tokenizer
from blixt.serve.specs.openai_types import Message, Piece

TAGGED = AnswerKind.of("<think></think><tool_call></tool_call>")
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def pieces(tokenizer: Tokenizer, text: str, finish: str = "stop", **given: Any) -> list[Piece]:
    """A turn whose answer is a text, token by token."""
    request = ChatBody(model="m", messages=[Message("user", "hi")], **given)
    parser = AnswerParser(TAGGED, ["f"] if request.tools is not None else [])
    turn = Turn(request, Prepared([1], parser), tokenizer, tokenizer.special_ids)
    ids = [*tokenizer.encode(text), tokenizer.end]
    out: list[Piece] = []
    for at, token in enumerate(ids):
        reason = finish if at == len(ids) - 1 else None
        logprobs = [TokenLogprob(token, -0.5, ((token, -0.5),))] if request.logprobs else []
        update = Update("1", [token], logprobs=logprobs, finish_reason=reason, prompt_tokens=3)
        piece = turn.take(update)
        out += [] if piece is None else [piece]
        if turn.done:
            break
    return out


def joined(found: Sequence[Piece]) -> tuple[str, str, list[dict[str, Any]]]:
    calls = [call for piece in found for call in piece.tool_calls or ()]
    return "".join(p.text for p in found), "".join(p.reasoning for p in found), calls


def test_reasoning_content_and_calls_come_apart(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, f"<think>hm</think>\n\nI look.\n{CALL}", tools=[])
    content, reasoning, calls = joined(found)
    assert (content, reasoning) == ("I look.", "hm")
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": '{"a": 1}'}]
    assert calls[0]["id"].startswith("call_")
    assert found[-1].finish_reason == "stop"
    assert 0 < sum(piece.reasoning_tokens for piece in found) < sum(piece.tokens for piece in found)


def test_the_end_token_is_counted_and_not_shown(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, "abc")
    assert joined(found)[0] == "abc"
    assert sum(piece.tokens for piece in found) == len(tokenizer.encode("abc")) + 1


def test_a_stop_text_ends_the_answer_before_it(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, "one two three", stop=" th")
    assert joined(found)[0] == "one two"
    assert found[-1].finish_reason == "stop"


def test_what_was_held_comes_at_the_end(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, "one t", finish="length", stop="two")
    assert joined(found)[0] == "one t"
    assert found[-1].finish_reason == "length"


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (False, 1)])
def test_parallel_calls_can_be_forbidden(tokenizer: Tokenizer, parallel: bool | None, count: int) -> None:
    found = pieces(tokenizer, f"{CALL}\n{CALL}", tools=[], parallel_tool_calls=parallel)
    assert [call["index"] for call in joined(found)[2]] == list(range(count))


def test_log_probabilities_name_their_tokens_and_bytes(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, "é", logprobs=True)
    told = [one for piece in found for one in piece.logprobs or ()]
    assert b"".join(bytes(one.bytes or []) for one in told) == "é".encode()
    assert {one.logprob for one in told} == {-0.5}


def test_the_last_piece_tells_the_time_between_tokens(tokenizer: Tokenizer) -> None:
    found = pieces(tokenizer, "one two three")
    assert [piece.token_seconds is not None for piece in found] == [False] * (len(found) - 1) + [True]
