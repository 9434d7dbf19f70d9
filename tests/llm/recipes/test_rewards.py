import re
from pathlib import Path
from typing import Any

import pytest

from blixt.llm.data import Task
from blixt.llm.errors import RecipeError
from blixt.llm.recipes.rewards import RewardConfig, make_reward


def worth(answer: str, fields: dict[str, Any] | None = None, **config: Any) -> float:
    return make_reward([RewardConfig(**config)])(
        Task(prompt="?", fields=fields or {}, origin="row 1"), answer
    )


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [
        ("42", 42, 1),
        (" 42.0\n", "42", 1),
        ("1,234", 1234, 1),
        ("$5", "5", 1),
        ("43", 42, 0),
        ("cat", "cat", 1),
    ],
)
def test_exact_compares_texts_and_numbers(answer: str, wanted: Any, value: float) -> None:
    assert worth(answer, {"answer": wanted}) == value


def test_exact_takes_what_the_pattern_finds_last() -> None:
    settings = {"pattern": r"#### (\S+)", "field": "result"}
    assert worth("so #### 3 no, #### 4", {"result": "4"}, **settings) == 1
    assert worth("it is 4", {"result": "4"}, **settings) == 0


def test_number_takes_the_last_number_of_answer_and_field() -> None:
    assert worth("2 and 3 make 5.", {"answer": "2 + 3 = #### 5"}, kind="number") == 1
    assert worth("none", {"answer": "5"}, kind="number") == 0


def test_contains_and_regex() -> None:
    assert worth("the cat sat", {"answer": "cat"}, kind="contains") == 1
    assert worth("the dog sat", {"answer": "cat"}, kind="contains") == 0
    assert worth("<think>a\nb</think> c", kind="regex", pattern="^<think>.*</think>") == 1


def test_json_is_parsed_fenced_or_not_and_checked_against_its_schema() -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    assert worth('{"age": 3}', kind="json", schema=schema) == 1
    assert worth('Here:\n```json\n{"age": 3}\n```', kind="json", schema=schema) == 1
    assert worth('{"age": "3"}', kind="json", schema=schema) == 0
    assert worth("{age: 3}", kind="json") == 0
    assert worth("null", kind="json") == 1
    with pytest.raises(RecipeError, match="no JSON schema"):
        worth("{}", kind="json", schema={"type": "objekt"})


def test_length_falls_with_the_distance() -> None:
    assert worth("a b c d", kind="length", words=4) == 1
    assert worth("a b", kind="length", words=4) == 0.5
    assert worth("a " * 20, kind="length", words=4) == 0


def test_weights_add_up() -> None:
    parts = [RewardConfig(kind="contains", weight=2.0), RewardConfig(kind="length", words=1, weight=0.5)]
    assert make_reward(parts)(Task(fields={"answer": "cat"}), "cat") == 2.5


def test_python_runs_the_code_and_its_tests() -> None:
    code = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```"
    settings: dict[str, Any] = {"kind": "python", "field": "tests", "execute": True, "timeout_s": 60.0}
    assert worth(code, {"tests": "assert add(1, 2) == 3"}, **settings) == 1
    assert worth(code, {"tests": "assert add(1, 2) == 4"}, **settings) == 0
    assert worth("def broken(", {"tests": ""}, **settings) == 0


def test_python_is_stopped_when_it_takes_too_long_or_too_much(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"kind": "python", "execute": True, "timeout_s": 1.0}
    assert worth("import time\ntime.sleep(60)", **settings) == 0
    assert worth("x = bytearray(3 << 30)", **settings) == 0
    big = f"open({str(tmp_path / 'big')!r}, 'wb').write(b'0' * (1 << 20))"
    assert worth(big, **settings) == 0


def test_python_sees_no_environment_and_no_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    settings: dict[str, Any] = {"kind": "python", "execute": True, "timeout_s": 60.0}
    assert worth("import os\nassert 'SECRET' not in os.environ", **settings) == 1
    assert worth("import torch", **settings) == 0


def test_python_is_refused_unless_allowed() -> None:
    with pytest.raises(RecipeError, match="set execute: true"):
        worth("", kind="python")


def first_letter(task: Task, answer: str) -> float:
    return float(answer[:1] == task.fields["letter"])


def test_a_function_of_ones_own_judges() -> None:
    name = f"{__name__}:first_letter"
    assert worth("abc", {"letter": "a"}, kind="function", function=name) == 1
    with pytest.raises(RecipeError, match="'nowhere:f' is not there"):
        worth("", kind="function", function="nowhere:f")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "regex"}, "kind regex needs pattern"),
        ({"kind": "length"}, "kind length needs words"),
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "exact"}, "row 1 has no field 'answer'"),
    ],
)
def test_settings_that_cannot_work_are_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        worth("a", **config)


def test_no_reward_at_all_is_told() -> None:
    with pytest.raises(RecipeError, match="rewards is empty"):
        make_reward([])
