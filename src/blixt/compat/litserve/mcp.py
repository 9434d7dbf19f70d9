"""MCP: a LitAPI as a tool."""

from typing import TYPE_CHECKING, Any

from .mcp_connector import ToolConnector
from .mcp_schema import extract_input_schema, kind_of, title_of
from .mcp_tool import ToolEndpointType
from .utils import is_package_installed

if TYPE_CHECKING:
    from .api import LitAPI

__all__ = ["MCP", "ToolEndpointType", "extract_input_schema"]

BODY = "request"
"""The argument of a tool that is the request's body: the parameter of `decode_request`."""


_LitMCPServerConnector = ToolConnector
_python_type_to_json_schema = kind_of
_param_name_to_title = title_of


class MCP:
    """Offers a LitAPI as a tool at `/mcp/`.

    Args:
        description: What it does, for the model that chooses among tools; default: the LitAPI's docstring.
        input_schema: JSON schema of its arguments; made from `decode_request`'s parameters if None.
        name: The tool's name; default: the LitAPI's path. Slashes become underscores.

    Raises:
        RuntimeError: The package `mcp` is not installed.
    """

    def __init__(
        self,
        description: str | None = None,
        input_schema: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not is_package_installed("mcp"):
            raise RuntimeError(
                "mcp package is required for MCP support. To install, run `pip install 'blixt[mcp]'`."
            )
        self.name = name
        self.description = description
        self.input_schema = input_schema
        self._api: LitAPI | None = None

    @property
    def name(self) -> str | None:
        """The tool's name, if it was given one."""
        return self._name

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = _tool_name(value) if value else None

    def connect(self, lit_api: "LitAPI") -> None:
        """LitAPI: this is whom the tool calls."""
        self._api = lit_api

    def as_tool(self) -> ToolEndpointType:
        """The tool as clients see it.

        Raises:
            RuntimeError: No LitAPI was made with this MCP.
            ValueError: Neither the MCP nor the LitAPI's class says what it does.
        """
        api = self._api
        if api is None:
            raise RuntimeError("MCP is not connected to a LitAPI. Pass it to one: LitAPI(mcp=MCP(...)).")
        description = self.description or api.__doc__
        if not description:
            raise ValueError("Description is required for MCP tool")
        return ToolEndpointType(
            name=self.name or _tool_name(api.api_path),
            description=description,
            inputSchema=self.input_schema or extract_input_schema(api.decode_request),
            endpoint=api.api_path,
        )

    def wire(self) -> Any:
        """The same as blixt's."""
        from blixt.serve import MCP as BlixtMCP

        tool = self.as_tool()
        schema = {**tool.inputSchema, "type": "object"}
        body = BODY if BODY in schema.get("properties", ()) else ""
        return BlixtMCP(tool.name, tool.description, schema, body)


def _tool_name(path: str) -> str:
    return path.removeprefix("/").replace("/", "_")
