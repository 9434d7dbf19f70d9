"""What happens to a block between memory and file: zstd if it helps, then AES-GCM if a key is given."""

import re
from collections.abc import Callable
from typing import Any

from blixt.data.crypto import TAG_BYTES, Cipher
from blixt.data.errors import CorruptionError, FormatError
from blixt.data.shard.layout import PLAIN, SEALED, ZSTD, is_bomb

_DEFAULT_LEVEL = 3
_WORTHWHILE = 0.95
_MAX_WINDOW_BYTES = 1 << 27


def zstd_level(compress: str | None) -> int | None:
    """Return the level that `"zstd"` or `"zstd:N"` names.

    Raises:
        ValueError: for anything else.

    Example:
        >>> zstd_level("zstd"), zstd_level("zstd:9"), zstd_level(None)
        (3, 9, None)
    """
    if compress is None:
        return None
    match = re.fullmatch(r"zstd(?::(\d{1,2}))?", compress)
    level = int(match[1] or _DEFAULT_LEVEL) if match else 0
    if not 1 <= level <= 22:
        raise ValueError(f"compress must be None, 'zstd' or 'zstd:1' to 'zstd:22', got {compress!r}")
    return level


class BlockCoder:
    """Encodes and decodes the blocks of one shard; with neither level nor cipher, blocks stay as they are.

    Attributes:
        packs: whether it may store a block in another form than its own.
    """

    def __init__(self, level: int | None = None, cipher: Cipher | None = None) -> None:
        self._compress = None if level is None else _compressor(level)
        self._cipher = cipher
        self.packs = level is not None or cipher is not None

    def encode(self, raw: Any, section: int, block: int) -> tuple[int, Any]:
        """Return how the block is stored, and its bytes; compression that saves under 5 % is not kept."""
        codec, stored = PLAIN, raw
        if self._compress is not None and len(raw):
            smaller = self._compress(raw)
            if len(smaller) < _WORTHWHILE * len(raw) and not is_bomb(len(raw), len(smaller)):
                codec, stored = ZSTD, smaller
        if self._cipher is not None:
            codec |= SEALED
            stored = self._cipher.seal(stored, codec, section, block)
        return codec, stored

    def decode(self, codec: int, stored: memoryview, raw_size: int, section: int, block: int) -> memoryview:
        """Return a block's raw bytes.

        Raises:
            DecryptionError: when the key does not open it.
            CorruptionError: when it does not unpack to `raw_size` bytes.
        """
        data: Any = stored
        if codec & SEALED:
            if self._cipher is None or len(stored) < TAG_BYTES:
                raise FormatError("it is encrypted and its shard says nothing of a key")
            data = self._cipher.open(stored, codec, section, block)
        if codec & ZSTD:
            data = _decompress(data, raw_size)
        if len(data) != raw_size:
            raise CorruptionError(f"it holds {len(data)} bytes and not {raw_size}")
        return memoryview(data)


def _compressor(level: int) -> Callable[[Any], bytes]:
    import zstandard

    return zstandard.ZstdCompressor(level, write_content_size=True).compress


def _decompress(data: Any, raw_size: int) -> bytes:
    import zstandard

    try:
        if zstandard.get_frame_parameters(data).content_size != raw_size:
            raise CorruptionError(f"its zstd frame does not declare the {raw_size} bytes of the block")
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        return decompressor.decompress(data, max_output_size=raw_size, allow_extra_data=False)
    except zstandard.ZstdError as problem:
        raise CorruptionError(f"it does not decompress ({problem})") from None
