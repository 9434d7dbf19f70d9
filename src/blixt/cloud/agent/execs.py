"""Commands that somebody waits for: stdout and stderr apart, stdin, a deadline, the exit code."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from blixt.cloud.agent.channel import Channel, ChannelClosed
from blixt.cloud.agent.protocol import CHUNK_BYTES, Kind
from blixt.cloud.agent.reaper import Child, Reaper, SpawnError, shell_exit

TIMEOUT_EXIT = 124
DRAIN_TIMEOUT_S = 1.0


async def run_exec(
    channel: Channel,
    reaper: Reaper,
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float | None,
) -> dict[str, int]:
    """Run a command to its end; it is killed when the caller goes away or the time is up."""
    (stdin_read, stdin_write), out, err = os.pipe(), os.pipe(), os.pipe()
    try:
        child = reaper.spawn(command, cwd=cwd, env=env, stdin=stdin_read, stdout=out[1], stderr=err[1])
    except SpawnError as error:
        for fd in (stdin_write, out[0], err[0]):
            os.close(fd)
        await channel.write(f"blixt: {error}\n".encode(), Kind.ERR)
        return {"exit": error.exit_code}
    finally:
        for fd in (stdin_read, out[1], err[1]):
            os.close(fd)
    feeder = asyncio.ensure_future(_feed(channel, stdin_write))
    pumps = asyncio.gather(_pump(out[0], channel, Kind.DATA), _pump(err[0], channel, Kind.ERR))
    try:
        code = await _wait(child, timeout_s)
        with contextlib.suppress(TimeoutError):  # a daemon it left behind may hold the pipes open
            async with asyncio.timeout(DRAIN_TIMEOUT_S if code == TIMEOUT_EXIT else None):
                await pumps
        return {"exit": code}
    finally:
        feeder.cancel()
        pumps.cancel()
        if not child.exited.done():
            child.signal_group(signal.SIGKILL)


def shell_command(command: Sequence[str] | str) -> list[str]:
    """A string runs in a shell, a list runs as it is."""
    if not isinstance(command, str):
        return list(command)
    shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    return [shell, "-c", command]


async def _wait(child: Child, timeout_s: float | None) -> int:
    try:
        async with asyncio.timeout(timeout_s):
            return shell_exit(await child.wait())
    except TimeoutError:
        child.signal_group(signal.SIGKILL)
        await child.wait()
        return TIMEOUT_EXIT


async def _feed(channel: Channel, fd: int) -> None:
    """Bytes from the caller to the command's stdin, then its end."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(fd, "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        while (piece := await channel.read()) is not None:
            writer.write(piece[1])
            await writer.drain()
    except (ConnectionError, ChannelClosed):
        return
    finally:
        writer.close()


async def _pump(fd: int, channel: Channel, kind: Kind) -> None:
    reader = asyncio.StreamReader(limit=CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0)
    )
    try:
        while piece := await reader.read(CHUNK_BYTES):
            await channel.write(piece, kind)
    finally:
        transport.close()
