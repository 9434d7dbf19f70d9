"""What an answer is worth, found out by checking it: no model judges, so nothing can be flattered.

A reward is a function of the task and the answer's text. Those here are named by `RewardConfig`; any other
is one's own function, named "package.module:function".
"""

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from blixt.llm.data import Task
from blixt.llm.errors import RecipeError
from blixt.llm.recipes.rewards_python import run_python

Reward = Callable[[Task, str], float]
"""The worth of an answer, usually from 0 to 1."""

FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class RewardConfig:
    """One part of the reward.

    Attributes:
        kind: exact: the answer (or what `pattern` takes out of it) is the task's `field`, numbers compared as
            numbers; contains: the field's text occurs; number: the answer's last number is the field's;
            regex: `pattern` matches somewhere (`.` may be a line's end); json: the answer is JSON, and
            follows `schema` if given;
            length: 1 at `words` words, less the further away; python: the answer's code and the tests in
            `field` run without error; function: your own.
        weight: What it counts in the sum.
        field: The task's field that holds what is right.
        pattern: A regular expression; its first group, or all of it, is what is compared.
        schema: A JSON schema.
        words: The length wanted.
        timeout_s: Of python.
        execute: Set it to let python run what a model wrote. Processor time, memory and files are limited,
            but this is no sandbox: do it on a machine that has nothing to lose.
        function: "package.module:function" that takes the task and the answer.
    """

    kind: Literal["exact", "contains", "number", "regex", "json", "length", "python", "function"] = "exact"
    weight: float = 1.0
    field: str = "answer"
    pattern: str = ""
    schema: dict[str, Any] | None = None
    words: int = 0
    timeout_s: float = 5.0
    execute: bool = False
    function: str = ""


def make_reward(configs: Sequence[RewardConfig]) -> Reward:
    """The weighted sum of several rewards.

    Raises:
        RecipeError: There is none, a pattern cannot be compiled, or a setting is missing.
    """
    if not configs:
        raise RecipeError("rewards is empty: say at least one, such as {kind: exact, field: answer}")
    parts = [(config.weight, _make(config)) for config in configs]

    def total(task: Task, answer: str) -> float:
        return sum(weight * reward(task, answer) for weight, reward in parts)

    return total


def _make(config: RewardConfig) -> Reward:
    pattern = _compiled(config)
    if config.kind == "exact":
        return lambda task, answer: float(_same(_taken(pattern, answer), _wanted(task, config.field)))
    if config.kind == "contains":
        return lambda task, answer: float(_wanted(task, config.field) in answer)
    if config.kind == "number":
        return lambda task, answer: float(_last_number(answer) == _last_number(_wanted(task, config.field)))
    if config.kind == "regex" and pattern is not None:
        return lambda task, answer: float(pattern.search(answer) is not None)
    if config.kind == "json":
        valid = _schema(config.schema)
        return lambda task, answer: float(valid(answer))
    if config.kind == "length" and config.words > 0:
        return lambda task, answer: max(0.0, 1 - abs(len(answer.split()) - config.words) / config.words)
    if config.kind == "python":
        return _python(config)
    if config.kind == "function":
        return _own(config.function)
    missing = "pattern" if config.kind == "regex" else "words"
    raise RecipeError(f"a reward of kind {config.kind} needs {missing}")


def _compiled(config: RewardConfig) -> re.Pattern[str] | None:
    try:
        flags = re.DOTALL if config.kind == "regex" else 0
        return re.compile(config.pattern, flags) if config.pattern else None
    except re.error as error:
        raise RecipeError(f"rewards: pattern {config.pattern!r} is no regular expression: {error}") from None


def _wanted(task: Task, field: str) -> str:
    if field not in task.fields:
        raise RecipeError(f"{task.origin} has no field {field!r}, which the reward compares with")
    return str(task.fields[field])


def _taken(pattern: re.Pattern[str] | None, answer: str) -> str:
    """What the last match of the pattern takes out of the answer."""
    if pattern is None:
        return answer
    found = list(pattern.finditer(answer))
    if not found:
        return ""
    return found[-1].group(1 if pattern.groups else 0) or ""


def _same(answer: str, wanted: str) -> bool:
    one, two = _number(answer), _number(wanted)
    return one == two if one is not None and two is not None else answer.strip() == wanted.strip()


def _number(text: str) -> float | None:
    try:
        return float(text.strip().strip("$%").replace(",", ""))
    except ValueError:
        return None


def _last_number(text: str) -> float | None:
    found = NUMBER.findall(text)
    return _number(found[-1]) if found else None


def _schema(schema: Mapping[str, Any] | None) -> Callable[[str], bool]:
    if schema is None:
        return lambda answer: _parsed(answer) is not None
    try:
        jsonschema: Any = importlib.import_module("jsonschema")
    except ModuleNotFoundError:
        raise RecipeError("a JSON reward with a schema needs jsonschema: pip install jsonschema") from None
    try:
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise RecipeError(f"rewards: schema is no JSON schema: {error.message}") from None

    def follows(answer: str) -> bool:
        parsed = _parsed(answer)
        return parsed is not None and bool(validator(schema).is_valid(parsed[0]))

    return follows


def _parsed(answer: str) -> list[Any] | None:
    """The JSON value in an answer, fenced or not, in a list of one; None when it is not JSON."""
    try:
        return [json.loads(_code(answer))]
    except json.JSONDecodeError:
        return None


def _code(answer: str) -> str:
    """What stands in the last fence, or all of it."""
    found = FENCE.findall(answer)
    return cast(str, found[-1]) if found else answer


def _python(config: RewardConfig) -> Reward:
    if not config.execute:
        raise RecipeError(
            "a reward of kind python runs what a model wrote: set execute: true to allow it, on a machine "
            "that has nothing to lose"
        )

    def runs(task: Task, answer: str) -> float:
        tests = str(task.fields.get(config.field, ""))
        return float(run_python(f"{_code(answer)}\n{tests}\n", config.timeout_s))

    return runs


def _own(name: str) -> Reward:
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"rewards: function {name!r} is not there ({error}): write module:name") from None
    return lambda task, answer: float(found(task, answer))
