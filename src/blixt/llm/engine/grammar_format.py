"""What the text of an answer may be told to look like."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from blixt.llm.errors import FormatError

Kind = Literal["json_schema", "json_object", "regex", "choice", "ebnf", "either"]


@dataclass(frozen=True)
class Format:
    """What a generated text has to look like; make one with the methods named after the kinds.

    Attributes:
        kind: Which of them it is.
        value: The JSON schema as text, the regular expression, the choices, or the EBNF grammar.
        branches: Of "either": each opening with the format behind it, None for any text.

    Example:
        ```python
        llm.generate("Paris or Rome?", format=Format.choice(["Paris", "Rome"]))
        ```
    """

    kind: Kind
    value: str | tuple[str, ...] = ""
    branches: "tuple[tuple[str, Format | None], ...]" = ()

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str | bool) -> "Format":
        """JSON that a schema describes; properties come in the schema's order.

        Raises:
            FormatError: The schema is not JSON.
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except json.JSONDecodeError as error:
                raise FormatError(f"the JSON schema is not JSON: {error}") from None
        try:
            return cls("json_schema", json.dumps(schema, ensure_ascii=False))
        except TypeError as error:
            raise FormatError(f"the JSON schema is not JSON: {error}") from None

    @classmethod
    def json_object(cls) -> "Format":
        """Any JSON object."""
        return cls("json_object")

    @classmethod
    def regex(cls, pattern: str) -> "Format":
        """A text that matches a regular expression from its first to its last character."""
        return cls("regex", pattern)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> "Format":
        """One of several texts.

        Raises:
            FormatError: There are none, or one is empty.
        """
        if not choices or "" in choices or isinstance(choices, str):
            raise FormatError("a choice needs a list with at least one text, none of them empty")
        return cls("choice", tuple(choices))

    @classmethod
    def ebnf(cls, grammar: str) -> "Format":
        """A text that a context-free grammar derives from its rule `root`, in xgrammar's EBNF."""
        return cls("ebnf", grammar)

    @classmethod
    def either(cls, branches: Sequence[tuple[str, "Format | None"]]) -> "Format":
        """One of several forms, each behind an opening that is written first; "" for none.

        Behind an opening with None anything may follow, as behind the marker of a tool call.

        Raises:
            FormatError: There are none, or one is itself such a choice, or free without an opening.
        """
        if not branches or any(form is not None and form.kind == "either" for _, form in branches):
            raise FormatError("a choice of forms needs at least one, none of them a choice of forms itself")
        if ("", None) in branches:
            raise FormatError("a free text needs an opening: without one the other forms would not matter")
        return cls("either", branches=tuple(branches))
