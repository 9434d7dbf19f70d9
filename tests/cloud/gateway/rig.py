"""Real sockets around a real gateway: upstreams read by h11, a byte-level client, waits with deadlines."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import h11

from blixt.cloud.gateway import Backend, Gateway, Limits, RouteTable, Stream, Target, connect_tcp

DEADLINE_S = 60.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Seen:
    """A request as another HTTP implementation read it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


class Server:
    """An upstream run by a coroutine per connection; counts connections and knows when they ended."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0
        self.ended = asyncio.Event()

    async def start(self, uds: str | None = None) -> "Server":
        if uds is None:
            self._server = await asyncio.start_server(self._run, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        else:
            self._server = await asyncio.start_unix_server(self._run, uds)
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, h11.RemoteProtocolError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            self.ended.set()


class Recorder:
    """An upstream that reads requests with h11, keeps them, and answers with `reply(seen)`."""

    def __init__(self, reply: Callable[[Seen], bytes] | None = None) -> None:
        self.seen: list[Seen] = []
        self._reply = reply or (lambda seen: OK)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            seen = await self._read(connection, reader)
            if seen is None:
                return
            self.seen.append(seen)
            answer = self._reply(seen)
            writer.write(answer)
            await writer.drain()
            if b"connection: close" in answer.lower().partition(b"\r\n\r\n")[0]:
                return
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Seen | None:
        seen: Seen | None = None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                headers = [(k.decode(), v.decode("latin-1")) for k, v in event.headers]
                seen = Seen(event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data):
                assert seen is not None
                seen.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return seen
            else:
                return None


@dataclass
class Client:
    """A raw connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readexactly(count)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(mark)

    async def all(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(-1)

    def drop(self) -> None:
        self.writer.transport.abort()


@dataclass
class Rig:
    """A gateway with upstreams around it; tokens are user names, and `alice` is in teamspace `lab`."""

    gateway: Gateway
    table: RouteTable
    api: Recorder
    folder: Path
    port: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    demanded: list[str] = field(default_factory=list)
    dialed: list[str] = field(default_factory=list)
    members: set[str] = field(default_factory=lambda: {"alice"})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, allocation_id: str, handler: Handler) -> Server:
        """Start an upstream that dialing `allocation_id` reaches."""
        server = await Server(handler).start()
        self.ports[allocation_id] = server.port
        self.servers.append(server)
        return server

    async def deploy(self, handler: Handler, **options: object) -> Server:
        """A public deployment `lab/m` with one replica."""
        server = await self.serve("a1", handler)
        self.set_replicas("a1", **options)
        return server

    def set_replicas(self, *allocations: str, **options: object) -> None:
        fields = {"public": True, "state": "ready", **options}
        replicas = tuple(Target(allocation, 80) for allocation in allocations)
        self.table.set_deployment(Backend("u1", "lab", "m", replicas=replicas, **fields))  # type: ignore[arg-type]

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def ask(self, request: bytes) -> bytes:
        """Send bytes on a new connection; everything that comes back until it ends."""
        client = await self.connect()
        await client.send(request)
        return await client.all()

    async def dial(self, allocation_id: str, port: int) -> Stream:
        self.dialed.append(allocation_id)
        if allocation_id not in self.ports:
            raise ConnectionRefusedError("no such allocation")
        return await connect_tcp("127.0.0.1", self.ports[allocation_id])


@contextlib.asynccontextmanager
async def rigged(
    api: Recorder | None = None, limits: Limits | None = None, api_handler: Handler | None = None
) -> AsyncIterator[Rig]:
    table = RouteTable()
    demanded: list[str] = []
    rig: Rig

    async def dial(allocation_id: str, port: int) -> Stream:
        return await rig.dial(allocation_id, port)

    async def authenticate(token: str) -> str | None:
        return token if token in ("alice", "bob") else None

    async def authorize(principal: str, teamspace: str) -> bool:
        return teamspace == "lab" and principal in rig.members

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uds = str(folder / "api.sock")
        gateway = Gateway(table, dial, authenticate, authorize, demanded.append, api=uds, limits=limits)
        rig = Rig(gateway, table, api or Recorder(), folder, demanded=demanded)
        rig.servers.append(await Server(api_handler or rig.api).start(uds))
        rig.port = await gateway.start("127.0.0.1", 0)
        try:
            yield rig
        finally:
            for client in rig.clients:
                client.drop()
            await gateway.stop(drain_s=0.2)
            for server in rig.servers:
                await server.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def within(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await event.wait()


def status(answer: bytes) -> int:
    return int(answer[9:12])
