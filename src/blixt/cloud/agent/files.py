"""Files and ports inside the allocation, streamed through a channel."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

from blixt.cloud.agent.channel import Channel, ChannelClosed, RemoteError
from blixt.cloud.agent.protocol import CHUNK_BYTES

DIAL_TIMEOUT_S = 5.0


def resolve(home: Path, path: str) -> Path:
    """A user's path: relative ones start at home, `~` means home."""
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    return home / path


async def read_file(channel: Channel, path: Path) -> dict[str, Any]:
    """Send a file's bytes, or a folder's entries as the result.

    Raises:
        RemoteError: There is no such file, or it may not be read.
    """
    try:
        if path.is_dir():
            return {"entries": _entries(path)}
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            await channel.note({"size": size})
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES * 4):
                await channel.write(piece)
            return {"size": size}
    except OSError as error:
        raise _as_remote(error, path) from error


async def write_file(channel: Channel, path: Path, mode: int | None = None) -> dict[str, Any]:
    """Write what the channel carries to a file, whole or not at all.

    Raises:
        RemoteError: The file cannot be written, or the caller went away in the middle.
    """
    part = path.with_name(f".{path.name}.blixt-part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            while (piece := await channel.read()) is not None:
                await asyncio.to_thread(file.write, piece[1])
        if channel.ended:
            raise ChannelClosed("the caller went away")
        if mode is not None:
            part.chmod(mode)
        part.rename(path)
        return {"size": path.stat().st_size}
    except OSError as error:
        raise _as_remote(error, path) from error
    finally:
        part.unlink(missing_ok=True)


async def dial(channel: Channel, port: int) -> None:
    """Join a channel with a TCP port on the allocation's loopback.

    Raises:
        RemoteError: Nothing listens there.
    """
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK_BYTES)
    except (OSError, TimeoutError) as error:
        raise RemoteError(f"Nothing answers on port {port}.", "refused") from error
    await channel.note({"connected": True})
    outward = asyncio.ensure_future(_to_socket(channel, writer))
    try:
        while piece := await reader.read(CHUNK_BYTES):
            await channel.write(piece)
    except ConnectionError as error:
        raise RemoteError(f"The connection to port {port} broke: {error}", "reset") from error
    finally:
        outward.cancel()
        writer.close()


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _to_socket(channel: Channel, writer: asyncio.StreamWriter) -> None:
    try:
        while (piece := await channel.read()) is not None:
            writer.write(piece[1])
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, ChannelClosed):
        return


def _entries(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        info = entry.stat(follow_symlinks=False)
        kind = "folder" if entry.is_dir() else "file"
        entries.append(
            {"name": entry.name, "type": kind, "size": info.st_size, "mode": stat.S_IMODE(info.st_mode)}
        )
    return entries


def _as_remote(error: OSError, path: Path) -> RemoteError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RemoteError(f"{path}: no such file or folder.", "not_found")
    return RemoteError(f"{path}: {error.strerror}.", "failed")
