"""Tools on an app of one's own: a FastAPI that gets an MCP server at `/mcp/`.

A `LitServer` needs none of it: its LitAPIs with `mcp=MCP()` are tools of its own app.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .mcp_tool import ToolEndpointType

if TYPE_CHECKING:
    from fastapi import FastAPI


class ToolConnector:
    """Tools by name, and the MCP server that offers them.

    Attributes:
        tools: In the order in which they were added.
        tool_endpoint_connections: The path that a tool's calls go to, by the tool's name.
    """

    def __init__(self) -> None:
        self.tools: list[ToolEndpointType] = []
        self.tool_endpoint_connections: dict[str, str] = {}
        self._server: Any = None

    def add_tool(self, tool: ToolEndpointType) -> None:
        """One more."""
        self.tool_endpoint_connections[tool.name] = tool.endpoint
        self.tools.append(tool)

    def list_tools(self) -> list[ToolEndpointType]:
        """All."""
        return self.tools

    def connect_mcp_server(self, tools: Sequence[ToolEndpointType], app: "FastAPI") -> None:
        """Mount the server at `/mcp`; a tool's call is a POST to its path in `app`.

        The app must live within `lifespan`: `FastAPI(lifespan=connector.lifespan)`.
        """
        from starlette.applications import Starlette
        from starlette.routing import Route

        for tool in tools:
            if tool.name not in self.tool_endpoint_connections:
                self.add_tool(tool)
        self._server = _mcp_app(app, self.tools)
        inner = Starlette(routes=[Route("/", endpoint=self._server, methods=None)])
        app.mount("/mcp", inner, name="mcp")

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None]:
        """Serve as long as the app does.

        Raises:
            RuntimeError: There is no server: `connect_mcp_server` was not called.
        """
        if self._server is None:
            raise RuntimeError("There are no tools yet: call connect_mcp_server(tools, app) first.")
        async with self._server.running():
            yield


def _mcp_app(app: Any, tools: Sequence[ToolEndpointType]) -> Any:
    """blixt's MCP server with tools that are told, not found."""
    from blixt.serve.config import Limits
    from blixt.serve.http.mcp import McpApp
    from blixt.serve.http.mcp_tools import Tool

    class Told(McpApp):
        def __init__(self) -> None:
            self._app = _Host(app)
            self._manager = None
            self.tools = {
                tool.name: Tool(
                    tool.name, tool.description, {**tool.inputSchema, "type": "object"}, tool.endpoint
                )
                for tool in tools
            }

    class _Host:
        """What the MCP server knows of its app: how to call it, and how large bodies may be."""

        def __init__(self, app: Any) -> None:
            self._app = app
            self.service = SimpleNamespace(limits=Limits())

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self._app(scope, receive, send)

    return Told()
