"""One replica's life: starting, ready, stopping; each step can be repeated after a crash."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from blixt.cloud.agent import RemoteError
from blixt.cloud.controllers.allocations import Allocation
from blixt.cloud.controllers.health import is_healthy
from blixt.cloud.controllers.world import (
    CALL_TIMEOUT_S,
    World,
    configure,
    describe_exit,
    drained,
    end,
    exits,
    why_lost,
)
from blixt.cloud.engines import EngineError
from blixt.cloud.errors import CloudError
from blixt.cloud.hub import AgentGone
from blixt.cloud.objects import Object

TRANSFER_TIMEOUT_S = 1800.0
STOP_GRACE_S = 5.0
DEFAULT_COMMAND = 'exec blixt llm serve "$BLIXT_MODEL_DIR" --port "$PORT" --model-name "$BLIXT_DEPLOYMENT"'
SHAPE = ("model", "command", "machine", "env", "secrets", "source", "health_path")


@dataclass(frozen=True)
class Replica:
    """A replica as the deployment's status keeps it."""

    id: str
    state: str
    allocation: str
    port: int | None
    started_at: float
    restarts: int
    shape: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The replica as plain values."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Replica":
        """The replica of plain values."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})


class Failed(Exception):
    """The replica cannot go on; the message says why."""


def shape(spec: dict[str, Any]) -> str:
    """What makes one replica differ from another: a change of these fields replaces replicas."""
    return hashlib.sha256(json.dumps([spec[key] for key in SHAPE], sort_keys=True).encode()).hexdigest()[:12]


async def advance(world: World, obj: Object, replica: Replica, allocation: Allocation) -> Replica:
    """Do a replica's next step.

    Raises:
        Failed: It must be replaced.
    """
    if allocation.reason:
        raise Failed(allocation.reason)
    lost = await why_lost(world, allocation) if allocation.state == "live" else None
    if lost is not None:
        raise Failed(lost)
    if replica.state == "ready":
        await _check_runs(world, obj, replica, allocation)
        return replica
    late = world.clock() - replica.started_at > obj.spec["start_timeout_s"]
    try:
        replica = await _bring_up(world, obj, replica, allocation)
    except AgentGone:
        pass
    except (CloudError, EngineError, RemoteError) as error:
        raise Failed(str(error)) from error
    if replica.state != "ready" and late:
        tail = world.logs.tail(obj.uid, replica.id)
        raise Failed(f"not healthy within {obj.spec['start_timeout_s']} s{_quoted(tail)}")
    return replica


async def remove(world: World, allocation: Allocation, reason: str) -> None:
    """End a replica's machine, gently."""
    await end(world, allocation, reason, grace_s=STOP_GRACE_S)


async def _bring_up(world: World, obj: Object, replica: Replica, allocation: Allocation) -> Replica:
    """Machine, environment, files, port, command, health: as far as it goes now."""
    if allocation.state == "requested":
        await asyncio.to_thread(world.allocations.start, allocation, obj)
        return replica
    codes = exits(world, allocation)
    if codes is None:
        return replica
    if not codes:
        if replica.port is None:
            # The port is in the status before anything listens on it, so a restarted server knows it.
            return replace(replica, port=await world.hub.call(allocation.id, "free_port", CALL_TIMEOUT_S))
        await _launch(world, obj, replica, allocation)
        return replica
    await _check_runs(world, obj, replica, allocation)
    if replica.port and await is_healthy(world.hub, allocation.id, replica.port, obj.spec["health_path"]):
        return replace(replica, state="ready", reason="")
    return replica


async def _launch(world: World, obj: Object, replica: Replica, allocation: Allocation) -> None:
    await configure(world, allocation, obj)
    env = {"PORT": str(replica.port), "BLIXT_REPLICA": replica.id}
    if obj.spec["source"]:
        await world.hub.call(allocation.id, "fetch_source", TRANSFER_TIMEOUT_S, blob=obj.spec["source"])
    if obj.spec["model"]:
        name, _, version = obj.spec["model"].partition(":")
        found = await world.hub.call(
            allocation.id, "fetch_model", TRANSFER_TIMEOUT_S, name=name, version=version or "latest"
        )
        env |= {"BLIXT_MODEL_DIR": found["folder"], "BLIXT_MODEL": f"{name}:{found['version']}"}
    await world.hub.call(
        allocation.id,
        "start",
        CALL_TIMEOUT_S,
        command=obj.spec["command"] or DEFAULT_COMMAND,
        processes=[{"id": "0", "env": env}],
    )


async def _check_runs(world: World, obj: Object, replica: Replica, allocation: Allocation) -> None:
    code = (exits(world, allocation) or {}).get("0")
    if code is not None:
        await drained(world, allocation)  # the exit is known before the last of the log is here
        raise Failed(f"its command {describe_exit(code)}{_quoted(world.logs.tail(obj.uid, replica.id))}")


def _quoted(words: str) -> str:
    return f": {words}" if words else ""
