"""How a dataset is reached, and how its bytes become values: what every reader of it passes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blixt.data.crypto import Key
from blixt.data.decode import Decode
from blixt.data.fetch import IN_FLIGHT_BYTES, THREADS, Fetcher, fetcher
from blixt.data.shard.blocks import DECODED_BYTES, DecodedCache, decoded_cache
from blixt.data.sizes import parse_size
from blixt.data.store import Credentials
from blixt.data.types import Codec


@dataclass(frozen=True, slots=True)
class Access:
    """How the bytes of a dataset are reached and kept.

    Attributes:
        credentials, options: see `blixt.data.store.open_store`.
        cache_dir, cache_bytes: see `blixt.data.cache.open_cache`.
        hedge: ask a second time for what takes longer than 95 % of the recent requests.
        io_threads: how many requests run at once in a process.
        io_bytes: how many bytes they may hold in memory together; a single larger request runs alone.
    """

    credentials: Credentials = None
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    cache_dir: str | Path | None = None
    cache_bytes: int | str | None = None
    hedge: bool = False
    io_threads: int = THREADS
    io_bytes: int | str = IN_FLIGHT_BYTES

    def __post_init__(self) -> None:
        if self.cache_bytes is not None:
            parse_size(self.cache_bytes)
        if self.io_threads < 1:
            raise ValueError(f"io_threads must be at least 1, got {self.io_threads}")
        parse_size(self.io_bytes)

    def pool(self) -> Fetcher:
        """Return the threads that fetch within these bounds in this process."""
        return fetcher(self.io_threads, parse_size(self.io_bytes))


@dataclass(frozen=True, slots=True)
class Reading:
    """How stored bytes become values; see `ShardReader`.

    Attributes:
        check: verify a block's checksum when it is first read.
        key: the key of an encrypted dataset, or a function from a key's id to it.
        decode: whether media columns are decoded, for all columns or by name.
        codecs: your own codecs by name.
        allow_pickle: decode columns of pickles, which runs their code.
        unpacked_bytes: how much memory of a process the unpacked blocks of compressed and encrypted datasets
            that were opened with the same limit may take together.
    """

    check: bool = True
    key: Key | None = None
    decode: Decode = True
    codecs: Mapping[str, Codec] | None = None
    allow_pickle: bool = False
    unpacked_bytes: int | str = DECODED_BYTES

    def __post_init__(self) -> None:
        parse_size(self.unpacked_bytes)

    def cache(self) -> DecodedCache:
        """Return where unpacked blocks are kept within this bound in this process."""
        return decoded_cache(parse_size(self.unpacked_bytes))
