"""Judge a model: perplexity of texts, multiple choice, lm-eval's tasks; all from local files.

Everything runs through packed forwards of the model or its engine, and gives the same numbers every time.
"""

from blixt.llm.evaluate.perplexity import Perplexity, perplexity, windows
from blixt.llm.evaluate.score import Score, Span, score

__all__ = ["Perplexity", "Score", "Span", "perplexity", "score", "windows"]
