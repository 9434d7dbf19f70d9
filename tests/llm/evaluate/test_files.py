"""Questions and files: what is read, what is chosen, and what is said about bad lines."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from blixt.cli.llm import app
from blixt.llm.api import LLM
from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate import Question, evaluate_file, multiple_choice
from blixt.llm.evaluate.choices import encode_pair
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer

QUESTIONS = [
    {"question": "def encode(self, o):", "choices": ["return", "self.width", "json"], "answer": 0},
    {"query": "if self.skipkeys", "choices": ["is", "text wrapper"], "label": "is"},
    {"choices": ["import", "def"], "gold": 1},
]


def logprob(model: GPT, tokenizer: Tokenizer, context: str, choice: str) -> float:
    before = tokenizer.encode(context)
    ids = tokenizer.encode(f"{context} {choice}")
    logits = model(torch.tensor([ids]))[0].log_softmax(-1)
    return sum(float(logits[at - 1, ids[at]]) for at in range(len(before), len(ids)))


def test_the_likeliest_choice_is_taken_plain_and_by_length(model: GPT, tokenizer: Tokenizer) -> None:
    questions = [
        Question(str(line["question"]), tuple(line["choices"]), 1)
        for line in ({"question": "self.width =", "choices": ["a", "width of the text", "0"]}, QUESTIONS[0])
    ]
    found = multiple_choice(model, tokenizer, questions)
    plain = normalised = 0
    for question, pick in zip(questions, found.picks, strict=True):
        values = [logprob(model, tokenizer, question.context, choice) for choice in question.choices]
        by_length = [value / len(choice) for value, choice in zip(values, question.choices, strict=True)]
        plain += values.index(max(values)) == 1
        normalised += by_length.index(max(by_length)) == 1
        assert pick == by_length.index(max(by_length))
    assert (found.accuracy, found.normalised, found.questions) == (plain / 2, normalised / 2, 2)


def test_spaces_at_a_contexts_end_belong_to_the_choice(tokenizer: Tokenizer) -> None:
    before, after = encode_pair(tokenizer, "return ", "text")
    assert (tokenizer.decode(before), tokenizer.decode(after)) == ("return", " text")


def test_an_empty_context_stands_behind_the_begin_or_end_token(tokenizer: Tokenizer) -> None:
    before, after = encode_pair(tokenizer, "", "text")
    assert (before, tokenizer.decode(after)) == ([tokenizer.eos[0]], "text")


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def test_a_file_of_questions_gives_two_accuracies(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = evaluate_file(model, tokenizer, write(tmp_path / "q.jsonl", QUESTIONS))
    assert [(one.metric, one.count) for one in found] == [("accuracy", 3), ("accuracy, normalised", 3)]
    assert all(0 <= one.value <= 1 and one.error is not None for one in found)
    assert evaluate_file(model, tokenizer, tmp_path / "q.jsonl", limit=2)[0].count == 2


def test_texts_give_perplexity_and_bits_per_byte(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = "def wrap(text, width=70):\n    return TextWrapper(width=width).wrap(text)\n" * 3
    (tmp_path / "a.txt").write_text(text)
    plain = evaluate_file(model, tokenizer, tmp_path / "a.txt")
    lines = evaluate_file(model, tokenizer, write(tmp_path / "a.jsonl", [{"text": text}]))
    assert [one.value for one in plain] == [one.value for one in lines]
    assert [one.metric for one in plain] == ["perplexity", "bits per byte"]
    assert plain[0].count == len(tokenizer.encode(text)) - 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"text": "a b"}\n{"text": 3}\n', "line 2 has no text under 'text'"),
        ("{oops\n", "line 1 is not JSON"),
        ("[1]\n", "line 1 is no JSON object"),
        ("\n\n", "has no lines"),
        ('{"choices": ["a", "b"], "answer": 5}\n', "line 1: answer 5 is none of the 2 choices"),
        ('{"choices": ["a", "b"], "answer": "c"}\n', "line 1 needs an index or one of its choices"),
        ('{"choices": ["a"], "answer": 0}\n', "line 1: a question needs two or more choices"),
        ('{"choices": "ab", "answer": 0}\n', "a list under 'choices'"),
    ],
)
def test_bad_lines_are_named(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path, content: str, sentence: str
) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(EvaluationError, match=sentence):
        evaluate_file(model, tokenizer, tmp_path / "bad.jsonl")


def test_a_missing_or_binary_file_is_named(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.txt cannot be read: No such file"):
        evaluate_file(model, tokenizer, tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match="not UTF-8"):
        evaluate_file(model, tokenizer, tmp_path / "b.txt")


@pytest.fixture(scope="module")
def folder(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    LLM(model, tokenizer).save(path)
    return path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    return result.exit_code, result.stdout


def test_the_command_prints_a_table_or_json(folder: Path, tmp_path: Path) -> None:
    questions = str(write(tmp_path / "q.jsonl", QUESTIONS))
    code, table = run(str(folder), questions)
    assert code == 0
    assert table.split()[:5] == ["TASK", "METRIC", "VALUE", "±", "N"]
    assert "accuracy, normalised" in table
    code, text = run(str(folder), questions, "--json", "--quantize", "int8")
    assert code == 0
    assert [one["metric"] for one in json.loads(text)] == ["accuracy", "accuracy, normalised"]
