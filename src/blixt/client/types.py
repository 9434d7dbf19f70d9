"""What the server's answers look like in Python: small frozen dataclasses, units in their names."""

from dataclasses import dataclass, field
from typing import Any

MICRO_CREDITS = 1_000_000
"""Money is counted in integer micro-credits (`_uc`); one credit is a million of them."""


def credits(amount_uc: int) -> str:
    """Money for people, with more places when it is little.

    >>> credits(1_234_500)
    '1.2345 cr'
    >>> credits(22)
    '0.000022 cr'
    """
    places = 6 if 0 < abs(amount_uc) < MICRO_CREDITS // 100 else 4
    return f"{amount_uc / MICRO_CREDITS:.{places}f} cr"


@dataclass(frozen=True, slots=True)
class ObjectData:
    """Any object on the server, as it was when it was read.

    Attributes:
        uid: Its identity for ever; names may be used again after a delete.
        kind: `studio`, `job`, `deployment`, `experiment`, `model`, `secret` or `budget`.
        revision: Grows with every change of `spec`; an update must name the one it has seen.
        spec: What was asked for.
        status: What is.
        created_at: Unix seconds.
        deleting: True once a delete was asked for and something still has to be cleaned up.
    """

    uid: str
    kind: str
    teamspace: str
    name: str
    revision: int
    owner: str
    created_at: float
    updated_at: float
    deleting: bool
    labels: dict[str, str] = field(default_factory=dict[str, str])
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    status: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ObjectData":
        """Read an object of the API; fields this version does not know are left out."""
        return cls(**{name: value[name] for name in cls.__slots__ if name in value})

    def to_json(self) -> dict[str, Any]:
        """The object as the API writes it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Machine:
    """An offer: a kind of machine and its price."""

    name: str
    cpus: float
    memory_gb: float
    gpus: int
    price_uc_per_hour: int
    available: bool | int


@dataclass(frozen=True, slots=True)
class Teamspace:
    """A teamspace that you are a member of."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server takes you for."""

    user: str
    teamspaces: tuple[Teamspace, ...]
    server_version: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a teamspace: `owner`, `member` or `viewer`."""

    user: str
    role: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in a Studio ended."""

    stdout: str
    stderr: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of a log as it was written; it need not end with a line feed.

    Attributes:
        text: The text.
        offset: Where to go on after this piece: pass it as `since`. A number of bytes for one rank, an
            opaque mark for all of them.
        rank: The rank (of a job) that wrote it.
    """

    text: str
    offset: int | str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class BillLine:
    """What one object cost on one kind of machine.

    Attributes:
        seconds: Machine-seconds.
        open: Whether it still runs, so that the amount grows.
        segments: How many allocations these were.
    """

    kind: str
    name: str
    uid: str
    machine: str
    seconds: float
    amount_uc: int
    open: bool
    segments: int = 1


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill of a teamspace: every machine-second at the machine's price.

    Attributes:
        lines: One for each object and machine.
        total_uc: Their sum, in micro-credits.
        budget_uc: The budget, None without one.
        remaining_uc: What is left of it, None without one.
    """

    lines: tuple[BillLine, ...]
    total_uc: int
    budget_uc: int | None
    remaining_uc: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an experiment.

    Attributes:
        state: `running`, `succeeded`, `failed` or `stopped`.
        job: The job that wrote it, if one did.
        metrics_seq: How many batches of metrics it has; the next one is this plus one.
        params: What it was run with.
        summary: The last value of each metric.
    """

    id: str
    name: str
    state: str
    job: str | None
    started_at: float | None
    updated_at: float | None
    metrics_seq: int = 0
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    summary: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a run over its steps."""

    step: tuple[int, ...]
    value: tuple[float, ...]
    time: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model version."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable version of a model: `uploading`, then `ready`."""

    version: int
    state: str
    job: str | None
    created_at: float | None
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    files: tuple[ModelFile, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The size of all its files together."""
        return sum(file.size_bytes for file in self.files)
