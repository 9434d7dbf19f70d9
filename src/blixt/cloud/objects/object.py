"""An object and a change to it, as plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Object:
    """One object at one moment.

    Attributes:
        revision: Grows with every change of spec or labels; a status change leaves it.
        spec: What was asked, checked by the kind.
        status: What is.
        finalizers: Who must let go before a deleted object vanishes.
        deleting: Deletion was asked for.
    """

    uid: str
    kind: str
    teamspace: str
    name: str
    revision: int
    owner: str
    created_at: float
    updated_at: float
    labels: dict[str, str] = field(default_factory=dict[str, str])
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    status: dict[str, Any] = field(default_factory=dict[str, Any])
    finalizers: tuple[str, ...] = ()
    deleting: bool = False

    @property
    def path(self) -> str:
        """A readable name, such as `default/job/train`."""
        return f"{self.teamspace}/{self.kind}/{self.name}"

    def to_json(self) -> dict[str, Any]:
        """Return the object as the API sends it."""
        return {
            "uid": self.uid,
            "kind": self.kind,
            "teamspace": self.teamspace,
            "name": self.name,
            "revision": self.revision,
            "labels": self.labels,
            "owner": self.owner,
            "spec": self.spec,
            "status": self.status,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "deleting": self.deleting,
        }


@dataclass(frozen=True)
class Change:
    """One entry of the change log: the object as it was after the change (or last, when deleted)."""

    seq: int
    type: Literal["created", "updated", "deleted"]
    object: Object

    def to_json(self) -> dict[str, Any]:
        """Return the change as the watch sends it."""
        return {"seq": self.seq, "type": self.type, "object": self.object.to_json()}


def to_row(item: Object) -> dict[str, Any]:
    """Return an object as a row of the table `objects`."""
    return {**item.to_json(), "finalizers": list(item.finalizers)}


def from_row(row: Mapping[Any, Any]) -> Object:
    """Return the object of a row."""
    values: dict[str, Any] = {**row, "finalizers": tuple(row["finalizers"])}
    return Object(**values)
