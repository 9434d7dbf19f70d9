"""An MCP server inside the app: every API a tool, over streamable HTTP at `/mcp/`.

A tool call is a request to the API's own route, made inside the process with the caller's headers: keys,
authorisation, queues, deadlines and metrics hold for tools as for anybody.
"""

import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import blixt
from blixt.serve.codec import to_json
from blixt.serve.errors import ConfigError
from blixt.serve.http.exchange import Event, RawHeaders, Receive, Scope, Send
from blixt.serve.http.mcp_tools import JSON_TYPE, Tool, tools_of

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.server import ServerRequestContext
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from blixt.serve.http.app import ServeApp

DROPPED = frozenset({b"content-length", b"content-type", b"accept", b"transfer-encoding", b"accept-encoding"})
Progress = Callable[[str], Awaitable[None]]


@dataclass
class Answer:
    """What the API's route answered."""

    status: int = 0
    media: str = ""
    body: bytes = b""
    pieces: list[Any] = field(default_factory=list[Any])
    error: str = ""


class McpApp:
    """The ASGI app at `/mcp/`. Requests stand alone, so that several fronts can share them.

    Args:
        app: The server, whose routes the tools call.

    Raises:
        ConfigError: The package `mcp` is not installed, or two tools have one name.
    """

    def __init__(self, app: "ServeApp") -> None:
        if find_spec("mcp") is None:
            raise ConfigError("MCP needs the package mcp: pip install 'blixt[mcp]'.")
        self._app = app
        self.tools = {tool.name: tool for tool in tools_of(app)}
        self._manager: StreamableHTTPSessionManager | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve while the app does."""
        from mcp.server import Server
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
        from mcp.server.transport_security import TransportSecuritySettings

        server: Server[Any] = Server(
            "blixt serve", version=blixt.__version__, on_list_tools=self._list, on_call_tool=self._call
        )
        open_hosts = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._manager = StreamableHTTPSessionManager(
            server,
            stateless=True,
            security_settings=open_hosts,
            max_request_body_size=self._app.service.limits.max_payload_bytes,
        )
        async with self._manager.run():
            yield
        self._manager = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one MCP message."""
        assert self._manager is not None, "the app serves only within its lifespan"
        await self._manager.handle_request(scope, receive, send)

    async def _list(
        self, context: "ServerRequestContext[Any]", params: "types.PaginatedRequestParams | None"
    ) -> "types.ListToolsResult":
        import mcp_types as types

        return types.ListToolsResult(
            tools=[
                types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.schema))
                for tool in self.tools.values()
            ]
        )

    async def _call(
        self, context: "ServerRequestContext[Any]", params: "types.CallToolRequestParams"
    ) -> "types.CallToolResult":
        from mcp.shared.exceptions import MCPError
        from mcp_types import INVALID_PARAMS

        tool = self.tools.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"There is no tool {params.name!r}; see tools/list.")
        try:
            body = tool.body(params.arguments or {})
        except ValueError as error:
            return _failed(f"The arguments do not fit: {error}.")
        count = 0

        async def progress(text: str) -> None:
            nonlocal count
            count += 1
            await context.session.report_progress(count, None, text)

        headers: RawHeaders = context.request.headers.raw if context.request is not None else []
        answer = await _ask(self._app, tool, headers, body, progress)
        return _result(answer)


async def _ask(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    tool: Tool,
    headers: RawHeaders,
    body: bytes,
    progress: Progress,
) -> Answer:
    """Make the request inside the process; a stream's pieces are told as they come."""
    answer = Answer()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Event:
        if waiting:
            return waiting.pop()
        await _for_ever()
        return {"type": "http.disconnect"}

    async def send(message: Event) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.media = dict(message["headers"]).get(b"content-type", b"").decode()
            return
        answer.body += message.get("body", b"")
        if answer.media.startswith("text/event-stream"):
            await _take_events(answer, progress)

    kept = [(name, value) for name, value in headers if name not in DROPPED]
    asked = [(b"content-type", tool.media.encode()), (b"content-length", str(len(body)).encode())]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": tool.path,
        "raw_path": tool.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*kept, *asked],
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    return answer


async def _take_events(answer: Answer, progress: Progress) -> None:
    *events, answer.body = answer.body.split(b"\n\n")
    for one in events:
        fields = dict(line.split(b": ", 1) for line in one.split(b"\n") if not line.startswith(b":"))
        if b"data" not in fields:
            continue
        value = json.loads(fields[b"data"])
        if fields.get(b"event") == b"error":
            answer.error = _sentence(value)
            continue
        answer.pieces.append(value)
        await progress(_text(value))


def _result(answer: Answer) -> "types.CallToolResult":
    import mcp_types as types

    if answer.error or answer.status >= 400:
        return _failed(answer.error or _sentence(_json(answer.body)))
    kind = answer.media.partition(";")[0]
    data = base64.b64encode(answer.body).decode()
    if kind.startswith("image/"):
        content: Any = types.ImageContent(type="image", data=data, mime_type=kind)
    elif kind.startswith("audio/"):
        content = types.AudioContent(type="audio", data=data, mime_type=kind)
    elif kind in (JSON_TYPE, "text/event-stream"):
        value = _joined(answer.pieces) if kind == "text/event-stream" else _json(answer.body)
        content = types.TextContent(type="text", text=_text(value))
        structured = cast(Any, value if isinstance(value, dict) else {"result": value})
        return types.CallToolResult(content=[content], structured_content=structured)
    elif kind.startswith("text/"):
        content = types.TextContent(type="text", text=answer.body.decode("utf-8", "replace"))
    else:
        blob = types.BlobResourceContents(uri="blixt://answer", mime_type=kind, blob=data)
        content = types.EmbeddedResource(type="resource", resource=blob)
    return types.CallToolResult(content=[content])


def _failed(sentence: str) -> "types.CallToolResult":
    import mcp_types as types

    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


def _joined(pieces: list[Any]) -> Any:
    return "".join(pieces) if pieces and all(isinstance(piece, str) for piece in pieces) else pieces


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _sentence(value: Any) -> str:
    inner = value
    for key in ("detail", "error", "message"):
        if isinstance(inner, dict) and key in inner:
            inner = inner[key]  # pyright: ignore[reportUnknownVariableType]  # JSON
    return _text(inner)


async def _for_ever() -> None:
    import anyio

    await anyio.sleep_forever()
