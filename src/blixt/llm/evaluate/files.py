"""Local files to judge a model by: texts for perplexity, questions for multiple choice."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate.choices import Question, multiple_choice
from blixt.llm.evaluate.perplexity import perplexity
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer

_CONTEXTS = ("context", "question", "query", "prompt")
_ANSWERS = ("answer", "label", "gold")


@dataclass(frozen=True)
class Measure:
    """One number of an evaluation.

    Attributes:
        task: What was asked: a file's name or a task's.
        metric: What is measured.
        value: The number.
        error: Its standard error, or None.
        count: Over how many tokens, questions or documents.
    """

    task: str
    metric: str
    value: float
    error: float | None = None
    count: int = 0


def evaluate_file(
    model: GPT,
    tokenizer: Tokenizer,
    path: str | Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
) -> list[Measure]:
    """Judge a model by a file.

    A file of text is one document. A `.jsonl` file has a document a line under "text", or a question a line:
    "question" (or "context", "query", "prompt"), "choices", and "answer" (or "label", "gold") as an index or
    as one of the choices.

    Args:
        model: In evaluation mode.
        tokenizer: The model's.
        path: The file, UTF-8.
        window: For texts, see `perplexity`.
        stride: For texts, see `perplexity`.
        limit: Read no more than so many lines of a `.jsonl` file.

    Raises:
        EvaluationError: The file is missing, empty, or a line is not as described; the sentence names it.
    """
    path = Path(path)
    if path.suffix not in (".jsonl", ".ndjson"):
        return _texts(model, tokenizer, path.name, [_read(path)], window, stride)
    lines = list(_lines(path, limit))
    if not lines:
        raise EvaluationError(f"{path} has no lines")
    if "choices" in lines[0][1]:
        found = multiple_choice(model, tokenizer, [_question(where, line) for where, line in lines])
        return [
            Measure(path.name, metric, share, found.error(share), found.questions)
            for metric, share in (("accuracy", found.accuracy), ("accuracy, normalised", found.normalised))
        ]
    return _texts(model, tokenizer, path.name, [_text(where, line) for where, line in lines], window, stride)


def _texts(
    model: GPT, tokenizer: Tokenizer, name: str, texts: list[str], window: int | None, stride: int | None
) -> list[Measure]:
    documents = [tokenizer.encode(text) for text in texts]
    found = perplexity(model, documents, window=window, stride=stride)
    # The first token of a document is given, so its bytes were not judged.
    judged = "".join(tokenizer.decode(ids[1:]) for ids in documents)
    bits = found.bits_per_byte(max(1, len(judged.encode())))
    return [
        Measure(name, "perplexity", found.perplexity, None, found.tokens),
        Measure(name, "bits per byte", bits, None, found.tokens),
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{path} is not UTF-8 text") from None


def _lines(path: Path, limit: int | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line's place and object."""
    filled = [(at, line) for at, line in enumerate(_read(path).splitlines(), 1) if line.strip()]
    for at, line in filled[:limit]:
        where = f"{path}, line {at}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise EvaluationError(f"{where} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise EvaluationError(f"{where} is no JSON object")
        yield where, cast("dict[str, Any]", value)


def _text(where: str, line: Mapping[str, Any]) -> str:
    text = line.get("text")
    if not isinstance(text, str):
        raise EvaluationError(f"{where} has no text under 'text'")
    return text


def _question(where: str, line: Mapping[str, Any]) -> Question:
    context = next((line[key] for key in _CONTEXTS if key in line), "")
    choices: Any = line.get("choices")
    answer: Any = next((line[key] for key in _ANSWERS if key in line), None)
    if not isinstance(choices, list) or not isinstance(context, str):
        raise EvaluationError(f"{where} needs a text under 'question' and a list under 'choices'")
    texts = tuple(str(choice) for choice in cast("list[object]", choices))
    if isinstance(answer, str) and answer in texts:
        answer = texts.index(answer)
    if not isinstance(answer, int):
        raise EvaluationError(f"{where} needs an index or one of its choices under 'answer'")
    try:
        return Question(context, texts, answer)
    except EvaluationError as error:
        raise EvaluationError(f"{where}: {error}") from None
