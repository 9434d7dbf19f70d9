"""Which tools an MCP server offers: one for each API, its arguments from the API's annotations."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from blixt.serve.api import API
from blixt.serve.codec import to_json
from blixt.serve.errors import ConfigError
from blixt.serve.http.openai import SpecLane
from blixt.serve.http.schemas import schema_of
from blixt.serve.mcp import MCP

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Tool:
    """One API as a tool.

    Attributes:
        path: Where its requests go.
        argument: The argument that is the body; empty: the body is the object of all arguments.
        media: The content type of the body; other than JSON and text it is base64 in the argument.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    path: str
    argument: str = ""
    media: str = JSON_TYPE

    def body(self, arguments: Mapping[str, Any]) -> bytes:
        """The request's body.

        Raises:
            ValueError: The argument that is the body is missing, or not base64.
        """
        if self.argument and self.argument not in arguments:
            raise ValueError(f"the argument {self.argument!r} is missing")
        value = arguments[self.argument] if self.argument else arguments
        if self.media == JSON_TYPE:
            return to_json(value)
        if self.media.startswith("text/"):
            return str(value).encode()
        return base64.b64decode(str(value), validate=True)


def tools_of(app: "ServeApp") -> list[Tool]:
    """The tools, from the APIs that want to be one.

    Raises:
        ConfigError: Two have one name.
    """
    tools: dict[str, Tool] = {}
    for path, lane in app.lanes.items():
        targets = [target.gate for target in lane.targets] if isinstance(lane, SpecLane) else [lane.gate]
        for gate in targets:
            api = gate.api
            wish = None if api is None else _wish(api, app.web.mcp)
            if api is None or wish is None or lane.method != "POST" or _is_second_route(api, path):
                continue
            tool = _spec_tool(api, wish, lane) if isinstance(lane, SpecLane) else _tool(api, wish, path)
            if tool.name in tools:
                raise ConfigError(f"Two MCP tools are called {tool.name!r}; give one a name: MCP(name=...).")
            tools[tool.name] = tool
    return list(tools.values())


def _wish(api: API, everybody: bool) -> MCP | None:
    if isinstance(api.mcp, MCP):
        return api.mcp
    return MCP() if api.mcp or (everybody and api.mcp is None) else None


def _is_second_route(api: API, path: str) -> bool:
    """A spec's API is one tool, whose calls go to the spec's first route."""
    return api.spec is not None and path != api.spec.paths()[0]


def _tool(api: API, wish: MCP, path: str) -> Tool:
    from blixt.serve.plan import make_plan

    plan = make_plan(api)
    media = plan.input_media
    schema = {"type": "string", "contentEncoding": "base64"} if media != JSON_TYPE else plan.input_schema()
    return _made(api, wish, schema, path, media)


def _spec_tool(api: API, wish: MCP, lane: SpecLane) -> Tool:
    endpoint = lane.targets[0].endpoint
    asked = endpoint.request
    known = cast(Mapping[str, Any], asked) if isinstance(asked, Mapping) else schema_of(asked or dict)
    return _made(api, wish, known, endpoint.path, endpoint.media_type)


def _made(api: API, wish: MCP, known: Mapping[str, Any] | None, path: str, media: str) -> Tool:
    schema = _rooted(wish.input_schema or known or {"type": "object"})
    wrapped = schema.get("type") != "object"
    name = wish.name or type(api).__name__
    argument = "input" if wrapped else wish.body
    return Tool(name, _said(api, wish), _input(schema) if wrapped else schema, path, argument, media)


def _said(api: API, wish: MCP) -> str:
    return wish.description or (type(api).__doc__ or type(api).__name__).strip()


def _rooted(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema whose root is no reference: MCP wants `"type": "object"` there."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    definitions: Mapping[str, Any] = schema["$defs"]
    return {**definitions[str(reference).removeprefix("#/$defs/")], "$defs": definitions}


def _input(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    outer: dict[str, Any] = {"type": "object", "properties": {"input": inner}, "required": ["input"]}
    return {**outer, "$defs": schema["$defs"]} if "$defs" in schema else outer
