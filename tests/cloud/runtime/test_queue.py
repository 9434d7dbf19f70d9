"""The work queue and the journal: leases, fences, wake-ups, and effects that are not repeated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from blixt.cloud.controllers.journal import Journal
from blixt.cloud.controllers.queue import LostLease, WorkQueue
from blixt.cloud.db import Database


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'q.db'}")
    yield made
    made.close()


@pytest.fixture
def queue(db: Database, clock: Clock) -> WorkQueue:
    return WorkQueue(db, "one", clock, lease_s=30)


def test_what_is_added_is_leased_once(queue: WorkQueue) -> None:
    queue.add(["a"])
    lease = queue.lease()
    assert lease is not None
    assert lease.uid == "a"
    assert queue.lease() is None


def test_a_lease_that_ran_out_is_given_to_another_with_a_higher_fence(
    queue: WorkQueue, db: Database, clock: Clock
) -> None:
    queue.add(["a"])
    first = queue.lease()
    clock.now += 31
    other = WorkQueue(db, "two", clock, lease_s=30)
    second = other.lease()
    assert first is not None
    assert second is not None
    assert second.fence > first.fence
    with pytest.raises(LostLease), db.write() as s:
        queue.check(first, s)
    with pytest.raises(LostLease):
        queue.renew(first)
    with pytest.raises(LostLease):
        queue.settle(first, 0)
    other.settle(second, None)


def test_a_renewed_lease_holds(queue: WorkQueue, clock: Clock) -> None:
    queue.add(["a"])
    lease = queue.lease()
    assert lease is not None
    clock.now += 20
    queue.renew(lease)
    clock.now += 20
    assert queue.lease() is None


def test_a_wake_during_the_work_brings_one_more_look(queue: WorkQueue) -> None:
    queue.add(["a"])
    lease = queue.lease()
    assert lease is not None
    queue.add(["a"])
    assert queue.lease() is None
    queue.settle(lease, None)
    again = queue.lease()
    assert again is not None
    queue.settle(again, None)
    assert queue.lease() is None
    assert queue.next_due() is None


def test_settled_work_comes_back_when_it_said(queue: WorkQueue, clock: Clock) -> None:
    queue.add(["a"])
    lease = queue.lease()
    assert lease is not None
    queue.settle(lease, 5)
    assert queue.lease() is None
    assert queue.next_due() == clock.now + 5
    clock.now += 5
    assert queue.lease() is not None


def test_failures_back_off_and_success_forgets_them(queue: WorkQueue, clock: Clock) -> None:
    queue.add(["a"])
    waits = []
    for _ in range(3):
        lease = queue.lease()
        assert lease is not None
        queue.settle(lease, None, failed=True)
        due = queue.next_due()
        assert due is not None
        waits.append(due - clock.now)
        clock.now = due
    assert waits == [1.0, 2.0, 4.0]
    lease = queue.lease()
    assert lease is not None
    assert lease.failures == 3
    queue.settle(lease, 0)
    found = queue.lease()
    assert found is not None
    assert found.failures == 0


def test_a_restarted_server_takes_its_own_leases_back_at_once(
    queue: WorkQueue, db: Database, clock: Clock
) -> None:
    queue.add(["a"])
    old = queue.lease()
    assert old is not None
    reborn = WorkQueue(db, "one", clock, lease_s=30)
    reborn.release_all()
    new = reborn.lease()
    assert new is not None
    with pytest.raises(LostLease):
        queue.settle(old, None)


def test_the_longest_due_is_first(queue: WorkQueue, clock: Clock) -> None:
    queue.add(["a"])
    clock.now += 1
    queue.add(["b"])
    first, second = queue.lease(), queue.lease()
    assert first is not None
    assert second is not None
    assert (first.uid, second.uid) == ("a", "b")


def test_the_journal_tells_what_began_and_never_ended(db: Database, clock: Clock) -> None:
    journal = Journal(db, clock)
    assert journal.state("t1") is None
    with db.write() as s:
        journal.begin("t1", "uid", "allocate", session=s)
        journal.begin("t1", "uid", "allocate", session=s)
        journal.begin("t2", "uid", "allocate", session=s)
        journal.finish("t2", session=s)
    assert (journal.state("t1"), journal.state("t2")) == ("begun", "done")
    assert journal.unfinished("allocate") == ["t1"]


def test_a_journal_entry_falls_with_its_transaction(db: Database, clock: Clock) -> None:
    journal = Journal(db, clock)

    def crash() -> None:
        with db.write() as s:
            journal.begin("t1", "uid", "allocate", session=s)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert journal.state("t1") is None
