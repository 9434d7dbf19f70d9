"""An API tried without a server: setup, then its examples through every hook, with timings and shapes."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TextIO

from blixt.serve.api import API
from blixt.serve.devices import resolve_devices
from blixt.serve.pipeline import Pipeline, place_of
from blixt.serve.plan import Plan, make_plan
from blixt.serve.plan_hooks import Hook
from blixt.serve.rehearse import Answered, rehearse
from blixt.serve.wire import Kind


def dry_run(
    apis: Sequence[API],
    accelerator: str = "auto",
    devices: "int | str | Sequence[int]" = "auto",
    out: TextIO | None = None,
) -> int:
    """Set every API up here and let it answer its examples; print how long each hook took and what it made.

    Args:
        apis: What a server would serve.
        accelerator: As `Server`; the first device is used.
        devices: As `Server`.
        out: Where to print; None: standard output.

    Returns:
        An exit code: 0, or 1 if a setup or an example failed.
    """
    device = resolve_devices(accelerator, devices)[0]
    say = _printer(out)
    codes = [_try(api, device, say) for api in apis]
    return max(codes, default=0)


def _printer(out: TextIO | None) -> Callable[[str], None]:
    return lambda text: print(text, file=out or sys.stdout, flush=True)


def _try(api: API, device: str, say: Callable[[str], None]) -> int:
    say(f"{type(api).__name__} at {api.api_path} on {device}")
    stages = api.stages if isinstance(api, Pipeline) else (api,)
    work: Sequence[Any] = list(api.examples() or stages[0].examples())
    kind = Kind.REQUEST
    try:
        for index, stage in enumerate(stages):
            place = place_of(index, len(stages)) if len(stages) > 1 else ""
            answers = _try_stage(stage, device, work, kind, place, say)
            work, kind = [answer.payload for answer in answers], Kind.PASS
    except Exception as error:
        say(f"  failed: {type(error).__name__}: {error}")
        return 1
    return 0


def _try_stage(
    api: API, device: str, work: Sequence[Any], kind: int, place: str, say: Callable[[str], None]
) -> list[Answered]:
    notes: list[str] = []
    plan = _probed(make_plan(api, stage=place), notes)
    api.device = device
    began = time.perf_counter()
    api.setup(device)
    say(f"  {type(api).__name__}.setup  {_ms(time.perf_counter() - began)}")
    if not work:
        say("  no examples: write `examples()` to try the other hooks")
        return []
    answers = rehearse(plan, work, kind)
    for note in notes:
        say(f"  {note}")
    for number, answered in enumerate(answers):
        size = f"{len(answered.pieces)} pieces" if answered.pieces else f"{len(answered.payload)} bytes"
        say(f"  example {number}: {Kind(answered.kind).name}, {size}")
    return answers


def _probed(plan: Plan, notes: list[str]) -> Plan:
    """The plan with hooks that note how long they took and what they made."""

    def probe(name: str, hook: Hook | None) -> Hook | None:
        if hook is None:
            return None
        inner = hook.call

        def call(value: Any, context: Any) -> Any:
            began = time.perf_counter()
            result = inner(value, context)
            notes.append(
                f"{name}({describe(value)}) -> {describe(result)}  {_ms(time.perf_counter() - began)}"
            )
            return result

        async def acall(value: Any, context: Any) -> Any:
            began = time.perf_counter()
            result = await inner(value, context)
            notes.append(
                f"{name}({describe(value)}) -> {describe(result)}  {_ms(time.perf_counter() - began)}"
            )
            return result

        return replace(hook, call=acall if hook.is_async else call)

    predict = probe("predict", plan.predict)
    assert predict is not None
    return replace(
        plan,
        decode=probe("decode_request", plan.decode),
        batch=probe("batch", plan.batch) if plan.policy.batched else plan.batch,
        predict=predict,
        unbatch=probe("unbatch", plan.unbatch) if plan.policy.batched else plan.unbatch,
        encode=probe("encode_response", plan.encode),
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def describe(value: Any) -> str:
    """A value's type and shape in a few words.

    Example:
        >>> describe([1.0, 2.0]), describe({"a": 1}), describe(b"12")
        ('list[2] of float', 'dict(a)', 'bytes[2]')
    """
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}[{','.join(map(str, shape))}]"
    name = type(value).__name__
    if name == "dict":
        return f"dict({', '.join(map(str, list(value)[:6]))})"
    if name in ("list", "tuple") and value:
        return f"{name}[{len(value)}] of {describe(value[0])}"
    return f"{name}[{len(value)}]" if name in ("str", "bytes", "list", "tuple") else name
