"""Any history of holds, starts, stops, crashes and repeats keeps the books right."""

import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blixt.cloud.db import Database
from blixt.cloud.db.tables import ledger_entries, teamspaces, usage_segments
from blixt.cloud.errors import BudgetExceeded, Conflict
from blixt.cloud.money import Money, PriceList, charge_uc, ledger
from blixt.cloud.objects import Store

PRICES = {"cpu-1": 50_000, "cpu-2": 100_000, "odd": 7_777_777, "free": 0}
ALLOCATIONS = st.sampled_from([f"a{number}" for number in range(5)])


class Crash(Exception):
    """The process dies before its transaction commits."""


class Histories(RuleBasedStateMachine):
    """Drives `Money` and keeps a simple model of what must have been charged."""

    @initialize(
        limit=st.integers(0, 600_000),
        user_limit=st.none() | st.integers(0, 600_000),
        machines=st.lists(st.sampled_from(sorted(PRICES)), min_size=5, max_size=5),
    )
    def start(self, limit: int, user_limit: int | None, machines: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        table = "".join(
            f"[machines.{name}]\ncpus=1\nmemory_gb=1\nprice_per_hour={price / 1e6:.6f}\n"
            for name, price in PRICES.items()
        )
        (path / "prices.toml").write_text(table)
        self.db = Database(f"sqlite:///{path}/x.db")
        with self.db.write() as s:
            s.execute(teamspaces.insert().values(name="t", created_by="a", created_at=0))
        store = Store(self.db)
        self.now = 1_000_000.0
        self.money = Money(self.db, PriceList(path / "prices.toml"), lambda: self.now)
        self.machine_of = {f"a{number}": name for number, name in enumerate(machines)}
        self.limits = {"teamspace": limit}
        if user_limit is not None:
            self.limits["user:ann"] = user_limit
        for applies_to, amount in self.limits.items():
            spec = {"limit_uc": amount, "applies_to": applies_to}
            name = applies_to.replace(":", "-")
            store.create("budget", "t", name, spec, owner="ann", actor="ann")
        self.job = store.create("job", "t", "j", {"command": "true"}, owner="ann", actor="ann")
        self.opened: dict[str, float] = {}
        self.closed: dict[str, float] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    @rule(seconds=st.floats(0, 4000))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(allocation=ALLOCATIONS)
    def hold(self, allocation: str) -> None:
        try:
            self.money.place_hold(allocation, self.job, self.machine_of[allocation], self.now)
        except BudgetExceeded:
            assert allocation not in self.opened

    @rule(allocation=ALLOCATIONS)
    def open(self, allocation: str) -> None:
        try:
            self.money.open_segment(allocation, self.job, self.machine_of[allocation], self.now)
        except Conflict:
            return
        with self.db.read() as s:
            state = s.scalar(
                sa.select(usage_segments.c.state).where(usage_segments.c.allocation_id == allocation)
            )
        if state == "open":
            self.opened.setdefault(allocation, self.now)

    @rule(allocation=ALLOCATIONS)
    def close(self, allocation: str) -> None:
        self.money.close_segment(allocation, self.now)
        if allocation in self.opened:
            self.closed.setdefault(allocation, self.now)

    @rule(allocation=ALLOCATIONS, seconds=st.floats(0, 4000))
    def run_unwatched(self, allocation: str, seconds: float) -> None:
        """The server is down while an allocation runs on."""
        self.hold(allocation)
        self.open(allocation)
        self.now += seconds
        self.close(allocation)

    @rule(allocation=ALLOCATIONS, step=st.sampled_from(["hold", "open", "close"]))
    def crash_during(self, allocation: str, step: str) -> None:
        machine = self.machine_of[allocation]

        def die() -> None:
            with self.db.write() as s:
                if step == "hold":
                    self.money.place_hold(allocation, self.job, machine, self.now, session=s)
                elif step == "open":
                    self.money.open_segment(allocation, self.job, machine, self.now, session=s)
                else:
                    self.money.close_segment(allocation, self.now, session=s)
                raise Crash

        with pytest.raises((Crash, BudgetExceeded, Conflict)):
            die()

    @rule()
    def extend_and_stop_what_cannot_be_paid(self) -> None:
        for allocation in self.money.extend_holds(self.now):
            self.close(allocation)

    @invariant()
    def books_balance(self) -> None:
        with self.db.read() as s:
            assert ledger.check(s) == ""

    @invariant()
    def every_closed_segment_is_charged_once_and_never_too_much(self) -> None:
        with self.db.read() as s:
            rows = s.execute(usage_segments.select()).mappings().all()
            entries = s.execute(ledger_entries.select()).mappings().all()
        charges = {row["allocation_id"]: row for row in rows if row["state"] == "closed"}
        assert set(charges) == set(self.closed)
        for allocation, row in charges.items():
            exact = charge_uc(
                round(self.closed[allocation] * 1e6) - round(self.opened[allocation] * 1e6),
                PRICES[self.machine_of[allocation]],
            )
            assert row["amount_uc"] + row["unbilled_uc"] == exact
            assert row["unbilled_uc"] >= 0
            posted = [e["amount_uc"] for e in entries if e["transaction"] == f"charge:{allocation}"]
            assert sorted(posted) == ([] if row["amount_uc"] == 0 else [-row["amount_uc"], row["amount_uc"]])

    @invariant()
    def no_budget_is_overrun(self) -> None:
        for use in self.money.budget_uses("t"):
            assert use.spent_uc + use.held_uc <= self.limits[use.applies_to]


Histories.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = Histories.TestCase
