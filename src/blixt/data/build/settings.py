"""What a build was asked for, in three small groups."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """How shards are written.

    Attributes:
        chunk_bytes: about how large a shard may grow.
        chunk_rows: how many rows it may have; None for any number.
        writer: further arguments of `ShardWriter` (compress, encrypt, key ...).
        duplicates: what a key that occurs twice means: "error", or whether the "first" or "last" row has it.
    """

    chunk_bytes: int
    chunk_rows: int | None = None
    writer: dict[str, Any] = field(default_factory=dict[str, Any])
    duplicates: str = "error"


@dataclass(frozen=True, slots=True)
class Transfer:
    """How files come and go where input or output is not on this machine.

    Attributes:
        input_dir: inputs that name files below it get a local copy instead; None fetches nothing.
        input_options: `credentials` and `options` of its store.
        downloaders: files fetched at a time, by each worker.
        uploaders: files sent at a time, by each worker.
        scratch: a folder for local copies; None is the system's.
    """

    input_dir: str | None = None
    input_options: dict[str, Any] = field(default_factory=dict[str, Any])
    downloaders: int = 2
    uploaders: int = 2
    scratch: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """What a build bears.

    Attributes:
        max_attempts: how often a unit may kill or hang its worker.
        timeout_s: how long one call of the function may take; None for ever.
    """

    max_attempts: int = 3
    timeout_s: float | None = None
