"""Judge a model: perplexity of texts, multiple choice, lm-eval's tasks; all from local files.

Everything runs through packed forwards of the model or its engine, and gives the same numbers every time.
"""

from typing import TYPE_CHECKING

from blixt.llm.evaluate.choices import Choices, Question, multiple_choice
from blixt.llm.evaluate.files import Measure, evaluate_file
from blixt.llm.evaluate.perplexity import Perplexity, perplexity, windows
from blixt.llm.evaluate.score import Score, Span, score

if TYPE_CHECKING:
    from blixt.llm.evaluate.harness import EngineLM, evaluate_tasks

__all__ = [
    "Choices",
    "EngineLM",
    "Measure",
    "Perplexity",
    "Question",
    "Score",
    "Span",
    "evaluate_file",
    "evaluate_tasks",
    "multiple_choice",
    "perplexity",
    "score",
    "windows",
]


def __getattr__(name: str) -> object:
    if name not in ("EngineLM", "evaluate_tasks"):  # they load lm-eval
        raise AttributeError(f"module 'blixt.llm.evaluate' has no attribute {name!r}")
    from blixt.llm.evaluate import harness

    return getattr(harness, name)
