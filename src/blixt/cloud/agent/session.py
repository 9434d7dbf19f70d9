"""The agent's life: dial out, serve operations, report state; dial again when the server is away."""

import asyncio
import contextlib
import logging
import random

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from blixt.cloud.agent.channel import ChannelClosed
from blixt.cloud.agent.mux import Mux
from blixt.cloud.agent.operations import Operations
from blixt.cloud.agent.protocol import MAX_FRAME_BYTES, VERSION, ProtocolError
from blixt.cloud.agent.reaper import Reaper
from blixt.cloud.agent.settings import AgentSettings

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
PING_INTERVAL_S = 15
GONE_STATUS = 410

log = logging.getLogger("blixt.agent")


class Agent:
    """Serves one allocation until it is killed or the server says that the allocation is over."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._changed = asyncio.Event()
        self._reaper = Reaper()
        self._operations = Operations(settings, self._reaper, self._changed.set)

    async def run(self) -> None:
        """Connect again and again; returns when the allocation is over."""
        self._reaper.start()
        delay = FIRST_DELAY_S
        while True:
            try:
                async with self._connect() as socket:
                    delay = FIRST_DELAY_S
                    await self._serve(socket)
            except InvalidStatus as error:
                if error.response.status_code == GONE_STATUS:
                    log.info("the allocation is over")
                    return
                log.warning("the server refused: %s", error)
            except (OSError, WebSocketException, TimeoutError, EOFError, ProtocolError) as error:
                log.warning("no connection to %s: %s", self._settings.url, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, LONGEST_DELAY_S)

    def _connect(self) -> connect:
        return connect(
            self._settings.connect_url,
            additional_headers={"Authorization": f"Bearer {self._settings.token}"},
            compression=None,
            max_size=MAX_FRAME_BYTES,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_INTERVAL_S,
            proxy=None,
        )

    async def _serve(self, socket: ClientConnection) -> None:
        mux = Mux(socket.send, self._operations.run)
        reporter = asyncio.ensure_future(self._report(mux))
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    mux.receive(message)
        finally:
            reporter.cancel()
            mux.close()

    async def _report(self, mux: Mux) -> None:
        """Send the whole state now and after every change, so the server never misses one."""
        with contextlib.suppress(ChannelClosed):
            while True:
                self._changed.clear()
                state = {
                    "version": VERSION,
                    "allocation": self._settings.allocation,
                    **self._operations.state(),
                }
                await mux.note({"state": state})
                await self._changed.wait()
