"""How an API looks as a tool of an MCP server. The server itself is in `blixt.serve.http.mcp`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blixt.serve.errors import ConfigError


@dataclass(frozen=True)
class MCP:
    """Serve an API as an MCP tool too, at `/mcp/`.

    Args:
        name: What the tool is called. Default: the class's name.
        description: What it does, for the language model that may call it. Default: the class's docstring.
        input_schema: JSON schema of the tool's arguments, an object. Default: from the annotations of
            `decode_request` or `predict`; a body that is no object becomes an argument named "input".
        body: Name of the argument that is the request's body. Default: all arguments are, as one object.

    Raises:
        ConfigError: The schema is not one of an object.

    Example:
        >>> MCP(name="double", description="Doubles a number.").name
        'double'
    """

    name: str = ""
    description: str = ""
    input_schema: Mapping[str, Any] | None = None
    body: str = ""

    def __post_init__(self) -> None:
        if self.input_schema is not None and self.input_schema.get("type") != "object":
            raise ConfigError('MCP: input_schema is not that of an object; begin it with {"type": "object"}.')
