import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from blixt.cloud.api import Cloud
from blixt.cloud.errors import Conflict, Gone, Invalid, NotFound
from blixt.cloud.objects import Object, Store
from blixt.cloud.objects import log as change_log


def _job(cloud: Cloud, name: str = "train", **spec: Any) -> Object:
    return cloud.store.create(
        "job", "default", name, {"command": "true", **spec}, owner="admin", actor="admin"
    )


def test_a_new_object_has_defaults_filled_in_and_its_first_status(cloud: Cloud) -> None:
    job = _job(cloud)
    assert (job.revision, job.spec["machines"], job.status["state"]) == (1, 1, "pending")
    assert cloud.store.get("job", "default", "train") == job


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a" * 64, "ä", "a/b", "a\n"])
def test_a_bad_name_is_refused_with_the_rule(cloud: Cloud, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        _job(cloud, name)
    assert "1 to 63 lower-case letters" in refused.value.hint


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"commnd": "true"}, "'commnd'"),
        ({"machines": "2"}, "machines"),
        ({"machines": 0}, "machines"),
        ({"machine": "cpu-99"}, "'cpu-99'"),
        ({"command": []}, "command"),
        ({"env": {"A B": "c"}}, "'A B'"),
        ({"source": "x"}, "source"),
        ({"desired": "flying"}, "desired"),
    ],
)
def test_a_wrong_spec_is_refused_naming_the_field(cloud: Cloud, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as refused:
        _job(cloud, **spec)
    assert says in refused.value.message
    assert cloud.store.list() == []


def test_an_unknown_machine_is_refused_with_the_known_ones(cloud: Cloud) -> None:
    with pytest.raises(Invalid) as refused:
        _job(cloud, machine="cpu-99")
    assert "cpu-1, cpu-2" in refused.value.hint


def test_a_taken_name_is_a_conflict_only_within_kind_and_teamspace(cloud: Cloud) -> None:
    cloud.identity.people.create_teamspace("other", owner="admin")
    _job(cloud)
    with pytest.raises(Conflict, match="already exists"):
        _job(cloud)
    for kind, teamspace, spec in [("studio", "default", {}), ("job", "other", {"command": "true"})]:
        cloud.store.create(kind, teamspace, "train", spec, owner="admin", actor="admin")


def test_an_object_in_an_unknown_teamspace_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFound, match="teamspace"):
        cloud.store.create("studio", "nowhere", "a", {}, owner="admin", actor="admin")


def test_a_stale_revision_is_a_conflict_and_changes_nothing(cloud: Cloud) -> None:
    job = _job(cloud)
    cloud.store.update_spec(job.uid, {"command": "first"}, revision=1, actor="ann")
    with pytest.raises(Conflict, match="revision 2, not 1"):
        cloud.store.update_spec(job.uid, {"command": "second"}, revision=1, actor="bob")
    assert cloud.store.get_uid(job.uid).spec["command"] == "first"


def test_a_status_change_keeps_the_revision_and_an_empty_one_writes_nothing(cloud: Cloud) -> None:
    job = _job(cloud)
    changed = cloud.store.update_status(job.uid, {"state": "running"})
    assert (changed.revision, changed.status["state"]) == (1, "running")
    seq = cloud.store.last_seq()
    cloud.store.update_status(job.uid, {"state": "running"})
    assert cloud.store.last_seq() == seq


def test_a_status_of_the_wrong_type_is_refused(cloud: Cloud) -> None:
    job = _job(cloud)
    with pytest.raises(Invalid, match="state"):
        cloud.store.update_status(job.uid, {"state": "dancing"})


def test_a_patch_that_changes_nothing_keeps_the_revision(cloud: Cloud) -> None:
    job = _job(cloud)
    assert cloud.store.patch_spec(job.uid, {"command": "true"}, actor="admin").revision == 1
    assert cloud.store.patch_spec(job.uid, {"max_restarts": 2}, actor="admin").revision == 2


def test_labels_select_objects(cloud: Cloud) -> None:
    spec = {"command": "true"}
    for name, team in [("a", "red"), ("b", "blue")]:
        labels = {"team": team, "tier": "1"}
        cloud.store.create("job", "default", name, spec, owner="admin", actor="admin", labels=labels)
    found = cloud.store.list("job", "default", {"team": "red", "tier": "1"})
    assert [item.name for item in found] == ["a"]


def test_a_deleted_object_waits_for_its_finalizers(cloud: Cloud) -> None:
    job = _job(cloud)
    cloud.store.add_finalizer(job.uid, "runtime")
    assert cloud.store.delete(job.uid, "admin").deleting
    with pytest.raises(Conflict, match="being deleted"):
        cloud.store.patch_spec(job.uid, {"max_restarts": 1}, actor="admin")
    with pytest.raises(Conflict, match="being deleted"):
        cloud.store.add_finalizer(job.uid, "late")
    cloud.store.remove_finalizer(job.uid, "runtime")
    with pytest.raises(NotFound):
        cloud.store.get_uid(job.uid)
    assert [change.type for change in cloud.store.changes(0)] == ["created", *["updated"] * 2, "deleted"]


def test_several_calls_join_one_transaction(cloud: Cloud) -> None:
    def both() -> None:
        with cloud.db.write() as s:
            job = cloud.store.create(
                "job", "default", "a", {"command": "true"}, owner="admin", actor="admin", session=s
            )
            cloud.store.update_status(job.uid, {"state": "starting"}, session=s)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        both()
    assert (cloud.store.list(), cloud.store.changes(0)) == ([], [])


def test_of_many_people_changing_one_revision_exactly_one_wins(cloud: Cloud) -> None:
    job = _job(cloud)
    barrier = threading.Barrier(8)

    def change(number: int) -> bool:
        barrier.wait(60)
        try:
            cloud.store.update_spec(job.uid, {"command": f"c{number}"}, revision=1, actor=f"u{number}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(change, range(8))) == 1


def test_a_watcher_that_follows_the_log_while_threads_write_misses_nothing(cloud: Cloud) -> None:
    done = threading.Event()
    seen: list[int] = []
    names: set[str] = set()

    def follow() -> None:
        since = 0
        while True:
            finished = done.is_set()
            for change in cloud.store.changes(since):
                seen.append(change.seq)
                names.add(change.object.name)
                since = change.seq
            if finished:
                return

    def write(worker: int) -> None:
        for number in range(15):
            _job(cloud, f"w{worker}-{number}")

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    done.set()
    follower.join(60)
    assert seen == list(range(1, 91))
    assert len(names) == 90


@pytest.mark.anyio
async def test_a_commit_in_another_thread_wakes_a_watcher(cloud: Cloud) -> None:
    async with cloud.store.subscribe() as wake:
        waiting = asyncio.create_task(wake.wait(60))
        await asyncio.to_thread(_job, cloud)
        assert await waiting
        assert not await wake.wait(0.01)


@pytest.mark.anyio
async def test_closing_the_store_ends_watches(cloud: Cloud) -> None:
    async with cloud.store.subscribe() as wake:
        cloud.store.close()
        assert await wake.wait(60)
        assert wake.closed


def test_sequence_numbers_grow_over_a_restart(cloud: Cloud) -> None:
    _job(cloud)
    again = Store(cloud.db)
    job = again.get("job", "default", "train")
    again.delete(job.uid, "admin")
    assert [change.seq for change in again.changes(0)] == [1, 2]


def test_watching_from_before_the_kept_log_says_to_list_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "KEEP_CHANGES", 1)
    monkeypatch.setattr(change_log, "_PRUNE_EVERY", 2)
    for name in ("a", "b", "c", "d"):
        _job(cloud, name)
    with pytest.raises(Gone, match="begins at 4"):
        cloud.store.changes(0)
    assert [change.seq for change in cloud.store.changes(3)] == [4]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "give model or command"),
        ({"model": "GPT"}, "name or name:version"),
        ({"model": "gpt:0"}, "name or name:version"),
        ({"model": "gpt", "min_replicas": 3, "max_replicas": 2}, "larger than max_replicas"),
        ({"model": "gpt", "health_path": "health"}, "begin with /"),
        ({"model": "gpt", "public": "yes"}, "public"),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused(cloud: Cloud, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        cloud.store.create("deployment", "default", "d", spec, owner="admin", actor="admin")


@pytest.mark.parametrize("model", ["gpt", "gpt:1", "gpt:latest"])
def test_a_deployment_names_a_model_and_maybe_a_version(cloud: Cloud, model: str) -> None:
    spec = {"model": model}
    made = cloud.store.create("deployment", "default", "d", spec, owner="admin", actor="admin")
    assert (made.spec["model"], made.status["state"]) == (model, "sleeping")


def test_a_budget_applies_to_the_teamspace_or_a_user(cloud: Cloud) -> None:
    spec = {"limit_uc": 1, "applies_to": "everybody"}
    with pytest.raises(Invalid, match="neither 'teamspace' nor 'user:NAME'"):
        cloud.store.create("budget", "default", "b", spec, owner="admin", actor="admin")


def test_labels_that_are_too_many_or_not_printable_are_refused(cloud: Cloud) -> None:
    for labels in ({f"k{n}": "v" for n in range(33)}, {"k y": "v"}, {"k": "a\nb"}, {"k": "v" * 257}):
        with pytest.raises(Invalid):
            cloud.store.create("studio", "default", "s", {}, owner="admin", actor="admin", labels=labels)
