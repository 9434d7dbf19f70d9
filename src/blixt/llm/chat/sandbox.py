"""Jinja for templates that strangers wrote: no way out of the sandbox, and a bound on the work.

Jinja's own sandbox keeps a template from reaching Python. It does not keep one from looping for hours or from
filling the memory, so everything here that repeats or grows draws on a budget: loops, calls, filters, joined
and multiplied values, and lists made of lists. The budget is counted, not timed, so that a conversation
renders the same on a busy machine.
"""

import json
import re
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn, cast

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

LIMIT = 4_000_000
MAX_NUMBER = 100_000  # widths, counts and powers that a template may name
MAX_DIGITS = 4_000
CHARACTERS_A_UNIT = 32
PLAIN = (str, int, float, list, tuple, dict, type(None))
QUICK_TESTS = frozenset(
    {
        "defined",
        "undefined",
        "none",
        "string",
        "mapping",
        "iterable",
        "sequence",
        "number",
        "integer",
        "float",
    }
    | {"boolean", "true", "false", "callable", "odd", "even", "divisibleby"}
)


class Budget:
    """Work that one rendering may still do, in units of about a microsecond.

    Args:
        limit: Units to begin with.
    """

    __slots__ = ("left",)

    def __init__(self, limit: int = LIMIT) -> None:
        self.left = limit

    def take(self, units: int) -> None:
        """Count some work.

        Raises:
            SecurityError: There is no budget left for it.
        """
        self.left -= units
        if self.left < 0:
            raise SecurityError("it does more work than a template may")

    def weigh(self, value: object) -> None:
        """Count a value by its size, all that it contains included.

        Raises:
            SecurityError: It is too large.
        """
        stack = [value]
        while stack:
            item = stack.pop()
            if isinstance(item, str | bytes):
                self.take(1 + len(item) // CHARACTERS_A_UNIT)
            elif isinstance(item, Mapping):
                members = cast("Mapping[Any, Any]", item)
                self.take(1 + len(members))
                stack += members.values()
            elif isinstance(item, list | tuple | set | frozenset):
                parts = cast("Sequence[Any]", item)
                self.take(1 + len(parts))
                stack += parts
            elif isinstance(item, range):
                self.take(1 + len(item))
            elif isinstance(item, int) and abs(item).bit_length() > MAX_DIGITS:
                raise SecurityError("it makes numbers of thousands of digits")
            else:
                self.take(1)


_budget: ContextVar[Budget] = ContextVar("budget")
_spans: ContextVar["list[tuple[str, str]] | None"] = ContextVar("spans", default=None)


@contextmanager
def budgeted(limit: int | None = None) -> Generator[Budget]:
    """Let templates rendered inside draw on one fresh budget."""
    budget = Budget(LIMIT if limit is None else limit)
    token = _budget.set(budget)
    try:
        yield budget
    finally:
        _budget.reset(token)


@contextmanager
def marking(marks: list[tuple[str, str]]) -> Generator[None]:
    """Put a mark before and after each `{% generation %}` block rendered inside; `marks` gets the pairs."""
    token = _spans.set(marks)
    try:
        yield
    finally:
        _spans.reset(token)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of chat templates, with the names and filters that transformers gives them."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "-"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], optimized=False
        )
        self.filters = {name: _counted(name, cast("Any", made)) for name, made in self.filters.items()}
        self.filters["tojson"] = _counted("tojson", to_json)
        self.globals = {
            "range": self.globals["range"],
            "dict": _Dict(),
            "namespace": SafeNamespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "raise_exception": _raise,
            "strftime_now": _now,
        }

    def compiled(self, source: str) -> Any:
        """A template whose loops and joins are counted.

        Raises:
            jinja2.TemplateError: It is no template.
        """
        tree = cast("nodes.Template", _Counting().visit(self.parse(source)))
        return self.template_class.from_code(self, self.compile(tree), self.make_globals(None))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An arithmetic operator; its result is weighed, and refused beforehand where it would be huge."""
        if operator == "**" and (abs(left) > MAX_NUMBER or abs(right) > 64):
            raise SecurityError("it raises numbers to large powers")
        if operator == "*":
            _check_product(left, right)
        if operator == "%" and isinstance(left, str):
            _check_form(left)
            _check_widths([right])
        result = super().call_binop(context, operator, left, right)
        _budget.get().weigh(result)
        return result

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call; arguments and result are weighed."""
        budget = _budget.get()
        budget.take(4)
        budget.weigh(args)
        if kwargs:
            budget.weigh(kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # Jinja wraps `str.format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes):
            _check_method(method.__name__, owner, [*args, *kwargs.values()])
        result = super().call(__context, __obj, *args, **kwargs)
        budget.weigh(result)
        return result

    def weighed(self, value: Any) -> Any:
        """The value itself; the call to this weighs it."""
        return value

    def joined(self, *values: Any) -> str:
        """The `~` operator."""
        return "".join(map(str, values))


class SafeNamespace(Namespace):
    """Jinja's `namespace`, which takes no names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # pyright: ignore[reportSelfClsParameterName] - self may be a name
        self, given = cast("SafeNamespace", args[0]), dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict` without the type's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: what the assistant said, for training on it alone."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja's base class has it

    def parse(self, parser: Parser) -> nodes.CallBlock:
        """The block as a call with a body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("_said"), [], [], body)
        block.set_lineno(line)
        return block

    def _said(self, caller: Macro) -> str:
        text = str(caller())
        marks = _spans.get()
        if marks is None:
            return text
        nonce = secrets.token_hex(8)  # so that no message can hold it
        pair = (f"\ue000{nonce}\ue001", f"\ue002{nonce}\ue003")
        marks.append(pair)
        return pair[0] + text + pair[1]


class _Counting(NodeTransformer):
    """Rewrites a template so that what repeats or grows passes through the sandbox's calls."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _weighed(cast("nodes.Expr", node.iter))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._outer(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._outer(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._outer(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _weighed(node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("joined", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _weighed(node.expr) if _may_grow(node.expr) else node.expr
        for operand in node.ops:
            operand.expr = _weighed(operand.expr) if _may_grow(operand.expr) else operand.expr
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Test:
        self.generic_visit(node)
        if node.name not in QUICK_TESTS and _may_grow(node.node):
            node.node = _weighed(node.node)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        parts = node.nodes
        node.nodes = [_weighed(part) if _may_grow(part) else part for part in parts]
        return node

    def _outer(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _weighed(node)


def _may_grow(node: nodes.Node) -> bool:
    return not isinstance(node, nodes.TemplateData | nodes.Const | nodes.Call)


def _weighed(node: nodes.Expr) -> nodes.Call:
    return _call("weighed", [node], node.lineno)


def _call(method: str, arguments: Sequence[nodes.Expr], line: int) -> nodes.Call:
    function = nodes.EnvironmentAttribute(method)
    call = nodes.Call(function, list(arguments), [], None, None)
    call.set_lineno(line)
    return call


def _counted(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments and result draw on the budget."""

    @wraps(made)
    def run(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        plain: list[Any] = [arg for arg in args if isinstance(arg, PLAIN)]
        budget.weigh(plain)
        values: list[Any] = [*plain[1:], *kwargs.values()]
        if name in ("join", "replace", "format") and plain:
            text = plain[0] if name != "join" else next((v for v in values if isinstance(v, str)), "")
            _check_method(name, str(text), [plain[0]] if name == "join" else values)
        _check_widths(values)
        result = made(*args, **kwargs)
        if isinstance(result, Iterator):
            return _drawn(cast("Iterator[Any]", result), budget)
        budget.weigh(result)
        return result

    return run


def _drawn(items: Iterator[Any], budget: Budget) -> Iterator[Any]:
    for item in items:
        budget.take(1)
        yield item


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
            _budget.get().take(len(cast("Sequence[Any]", many)) * max(times, 0) // CHARACTERS_A_UNIT)


def _check_widths(values: Sequence[Any]) -> None:
    """Count numbers that may be the width of a text before it is made."""
    for value in values:
        inside = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else [value]
        for number in inside:
            if isinstance(number, int) and abs(number) > MAX_NUMBER:
                _budget.get().take(abs(number) // CHARACTERS_A_UNIT)


def _check_form(form: Any) -> None:
    """Refuse widths written into a format."""
    if isinstance(form, str) and re.search(r"\d{6}", form):
        raise SecurityError("it formats to widths of 100,000 characters and more")


def _check_method(name: str, text: str | bytes, args: Sequence[Any]) -> None:
    """What a text's method would make, counted before it is made."""
    size = 0
    _check_widths(args)
    if name in ("format", "format_map"):
        _check_form(text)
    elif name == "replace" and len(args) >= 2 and all(isinstance(arg, type(text)) for arg in args[:2]):
        size = text.count(args[0]) * len(args[1])
    elif name == "join" and args and isinstance(args[0], list | tuple | str):
        size = len(cast("Sequence[Any]", args[0])) * len(text)
    elif name == "expandtabs":
        tab = "\t" if isinstance(text, str) else b"\t"
        size = text.count(tab) * max([8, *(arg for arg in args if isinstance(arg, int))])  # pyright: ignore[reportArgumentType] - of its own kind
    _budget.get().take(size // CHARACTERS_A_UNIT)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it sets {name!r} in a namespace; names there do not begin with an underscore")


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The `tojson` filter: plain JSON, unlike Jinja's, which escapes for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise JinjaError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
