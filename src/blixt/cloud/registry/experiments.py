"""Experiments: runs with parameters, a state, and metrics that stream in batches."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Database, Session
from blixt.cloud.db.tables import metric_chunks, runs
from blixt.cloud.errors import Conflict, NotFound
from blixt.cloud.identity.audit import append as audit_append
from blixt.cloud.objects import Object, Store
from blixt.cloud.registry import metrics
from blixt.cloud.registry.metrics import MetricRow, Series

FINAL_STATES = frozenset({"succeeded", "failed", "stopped"})


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        summary: Last value of each metric; NaN and infinities as strings.
        metrics_seq: The last batch of metrics stored; the next one has this number plus one.
    """

    id: str
    name: str
    state: str
    params: dict[str, Any]
    job: str | None
    started_at: float
    updated_at: float
    finished_at: float | None
    summary: dict[str, float | str]
    metrics_seq: int

    def to_json(self) -> dict[str, Any]:
        """Return the run as the API sends it."""
        return asdict(self)


class Experiments:
    """Runs and their metrics.

    Args:
        db: The database.
        store: The object store, which holds the experiments themselves.
        clock: Returns unix seconds.
    """

    def __init__(self, db: Database, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._store = store
        self._clock = clock

    def create_run(
        self,
        teamspace: str,
        experiment: str,
        *,
        owner: str,
        actor: str,
        run_id: str | None = None,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        job: str | None = None,
    ) -> Run:
        """Create a run, and the experiment when there is none; the same id again gives the same run."""
        now = self._clock()
        with self._db.write() as s:
            parent = self._store.find("experiment", teamspace, experiment, session=s)
            if parent is None:
                parent = self._store.create(
                    "experiment", teamspace, experiment, {}, owner=owner, actor=actor, session=s
                )
            chosen = run_id or uuid.uuid4().hex[:12]
            existing = _find(s, parent.uid, chosen)
            if existing is not None:
                return _run(existing)
            row = {
                "experiment_uid": parent.uid,
                "id": chosen,
                "name": name or chosen,
                "params": dict(params or {}),
                "job": job,
                "state": "running",
                "summary": {},
                "metrics_seq": 0,
                "started_at": now,
                "updated_at": now,
                "finished_at": None,
            }
            s.execute(runs.insert().values(**row))
            audit_append(s, actor, "create", "run", teamspace, f"{experiment}/{chosen}", at=now)
            self._store.update_status(parent.uid, {"runs": parent.status["runs"] + 1}, session=s)
        return _run(row)

    def runs(self, teamspace: str, experiment: str) -> Sequence[Run]:
        """Return an experiment's runs, newest first."""
        with self._db.read() as s:
            parent = self._parent(s, teamspace, experiment)
            query = sa.select(runs).where(runs.c.experiment_uid == parent.uid)
            rows = s.execute(query.order_by(runs.c.started_at.desc(), runs.c.id)).mappings()
            return [_run(row) for row in rows]

    def run(self, teamspace: str, experiment: str, run_id: str) -> Run:
        """Return one run.

        Raises:
            NotFound: When there is no such experiment or run.
        """
        with self._db.read() as s:
            return _run(self._row(s, teamspace, experiment, run_id))

    def update_run(
        self,
        teamspace: str,
        experiment: str,
        run_id: str,
        *,
        actor: str,
        state: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Run:
        """Change a run's state or add parameters."""
        now = self._clock()
        with self._db.write() as s:
            row = self._row(s, teamspace, experiment, run_id)
            values: dict[str, Any] = {"updated_at": now, "params": {**row["params"], **(params or {})}}
            if state is not None:
                values |= {"state": state, "finished_at": now if state in FINAL_STATES else None}
            s.execute(runs.update().where(_key(row["experiment_uid"], run_id)).values(**values))
            detail = {} if state is None else {"state": state}
            audit_append(
                s, actor, "update", "run", teamspace, f"{experiment}/{run_id}", detail=detail, at=now
            )
        return _run({**row, **values})

    def append_metrics(
        self, teamspace: str, experiment: str, run_id: str, seq: int, rows: Iterable[MetricRow]
    ) -> int:
        """Store a batch of metrics once; return the number of the last batch stored.

        Batches are numbered from 1. A number already stored is a repeat and changes nothing, so a client
        whose answer got lost just sends again.

        Raises:
            Conflict: When batches are missing before this one.
        """
        series = metrics.by_name(rows)
        with self._db.write() as s:
            row = self._row(s, teamspace, experiment, run_id)
            stored: int = row["metrics_seq"]
            if seq <= stored:
                return stored
            if seq != stored + 1:
                raise Conflict(
                    f"Run {run_id!r} has metrics up to batch {stored}, so batch {seq} leaves a gap.",
                    f"Send batch {stored + 1} next.",
                    expected_seq=stored + 1,
                )
            uid = row["experiment_uid"]
            if series:
                s.execute(
                    metric_chunks.insert(), [_chunk(uid, run_id, seq, *item) for item in series.items()]
                )
            last = {name: metrics.number_json(points.values[-1]) for name, points in series.items()}
            values = {
                "metrics_seq": seq,
                "summary": {**row["summary"], **last},
                "updated_at": self._clock(),
            }
            s.execute(runs.update().where(_key(uid, run_id)).values(**values))
        return seq

    def read_metrics(
        self,
        teamspace: str,
        experiment: str,
        run_id: str,
        *,
        names: Iterable[str] | None = None,
        since_step: int | None = None,
        max_points: int = 1000,
    ) -> dict[str, Series]:
        """Return curves by name: points after `since_step`, thinned to at most `max_points` each."""
        c = metric_chunks.c
        with self._db.read() as s:
            row = self._row(s, teamspace, experiment, run_id)
            query = sa.select(c.name, c.steps, c.times, c["values"]).where(
                (c.experiment_uid == row["experiment_uid"]) & (c.run_id == run_id)
            )
            if names is not None:
                query = query.where(c.name.in_(list(names)))
            if since_step is not None:
                query = query.where(c.max_step > since_step)
            chunks: dict[str, list[tuple[bytes, bytes, bytes]]] = {}
            for name, *packed in s.execute(query.order_by(c.name, c.seq)):
                chunks.setdefault(name, []).append((packed[0], packed[1], packed[2]))
        return {name: _series(parts, since_step, max_points) for name, parts in chunks.items()}

    def _parent(self, s: Session, teamspace: str, experiment: str) -> Object:
        return self._store.get("experiment", teamspace, experiment, session=s)

    def _row(self, s: Session, teamspace: str, experiment: str, run_id: str) -> Mapping[Any, Any]:
        found = _find(s, self._parent(s, teamspace, experiment).uid, run_id)
        if found is None:
            raise NotFound(
                f"Experiment {experiment!r} has no run {run_id[:80]!r}.", "List its runs, or create it."
            )
        return found


def _key(experiment_uid: str, run_id: str) -> sa.ColumnElement[bool]:
    return (runs.c.experiment_uid == experiment_uid) & (runs.c.id == run_id)


def _find(s: Session, experiment_uid: str, run_id: str) -> Mapping[Any, Any] | None:
    return s.execute(sa.select(runs).where(_key(experiment_uid, run_id))).mappings().one_or_none()


def _run(row: Mapping[Any, Any]) -> Run:
    return Run(**{name: row[name] for name in Run.__dataclass_fields__})


def _chunk(uid: str, run_id: str, seq: int, name: str, points: Series) -> dict[str, Any]:
    return {
        "experiment_uid": uid,
        "run_id": run_id,
        "name": name,
        "seq": seq,
        "count": len(points.steps),
        "max_step": max(points.steps),
        "steps": metrics.pack(points.steps),
        "times": metrics.pack(points.times),
        "values": metrics.pack(points.values),
    }


def _series(parts: Sequence[tuple[bytes, bytes, bytes]], since_step: int | None, max_points: int) -> Series:
    whole = metrics.in_order(metrics.unpack(parts))
    if since_step is not None:
        whole = metrics.after_step(whole, since_step)
    return metrics.thin(whole, max_points)
