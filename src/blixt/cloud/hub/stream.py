"""A socket inside an allocation, as the gateway sees it."""

from blixt.cloud.agent import Channel, ChannelClosed, RemoteError


class ChannelStream:
    """The gateway's `Stream` over an agent's channel; credit on the channel is its back-pressure."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._rest = b""

    async def read(self, n: int = 65536) -> bytes:
        """The next bytes, empty at the end.

        Raises:
            ConnectionError: The connection broke inside or the agent went away.
        """
        if not self._rest:
            piece = await self._channel.read()
            if piece is None:
                await self._raise_if_broken()
                return b""
            self._rest = piece[1]
        data, self._rest = self._rest[:n], self._rest[n:]
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting for credit.

        Raises:
            ConnectionError: The connection is over.
        """
        try:
            await self._channel.write(data)
        except ChannelClosed as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """End the connection; a read that waits returns."""
        await self._channel.cancel()

    async def _raise_if_broken(self) -> None:
        if not self._channel.ended:
            return  # the other side only finished sending
        try:
            await self._channel.result()
        except RemoteError as error:
            raise ConnectionError(str(error)) from error
        except ChannelClosed as error:
            if self._channel.lost:
                raise ConnectionError(str(error)) from error
