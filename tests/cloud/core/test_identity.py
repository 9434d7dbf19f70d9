import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from blixt.cloud.api import Cloud
from blixt.cloud.db import tables
from blixt.cloud.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from blixt.cloud.identity import RULES, Identity, Principal, Role, bootstrap, permitted
from blixt.cloud.identity.secrets import KeyFileError
from blixt.cloud.kinds import KINDS


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def _sign_in(cloud: Cloud, name: str, role: str | None = None) -> Principal:
    secret = cloud.identity.create_user(name).secret
    if role is not None:
        cloud.identity.people.set_member("default", name, role, actor="admin")
    principal = cloud.identity.authenticate(secret)
    assert principal is not None
    return principal


def test_a_token_is_stored_only_as_a_hash(cloud: Cloud) -> None:
    secret = cloud.identity.create_user("ann").secret
    folder = cloud.settings.data_dir
    assert not any(secret.encode() in file.read_bytes() for file in folder.iterdir() if file.is_file())


def test_an_unknown_token_is_nobody(cloud: Cloud) -> None:
    assert cloud.identity.authenticate("blx_nonsense") is None
    assert cloud.identity.authenticate("") is None
    assert cloud.identity.authenticate("\ud800") is None


def test_a_revoked_token_is_refused_at_once_though_it_was_cached(cloud: Cloud) -> None:
    token = cloud.identity.create_user("ann")
    assert cloud.identity.authenticate(token.secret) is not None
    cloud.identity.revoke_token(token.id)
    assert cloud.identity.authenticate(token.secret) is None


def test_a_token_ends_when_it_expires_though_it_was_cached(cloud: Cloud) -> None:
    clock = Clock()
    identity = Identity(cloud.db, clock)
    secret = identity.issue_token("admin", expires_s=2.0).secret
    assert identity.authenticate(secret) is not None
    clock.now += 2.0
    assert identity.authenticate(secret) is None


def test_a_session_dies_with_its_token(cloud: Cloud) -> None:
    token = cloud.identity.create_user("ann")
    principal = cloud.identity.authenticate(token.secret)
    assert principal is not None
    session = cloud.identity.open_session(principal)
    assert cloud.identity.authenticate(session.secret) is not None
    cloud.identity.revoke_token(token.id)
    assert cloud.identity.authenticate(session.secret) is None


def test_a_ticket_works_once_and_not_as_a_token(cloud: Cloud) -> None:
    ann = _sign_in(cloud, "ann")
    ticket = cloud.identity.issue_ticket(ann)
    assert cloud.identity.authenticate(ticket.secret) is None
    session = cloud.identity.tokens.redeem_ticket(ticket.secret)
    found = cloud.identity.authenticate(session.secret)
    assert found is not None
    assert found.user == "ann"
    with pytest.raises(Unauthenticated):
        cloud.identity.tokens.redeem_ticket(ticket.secret)


def test_a_ticket_for_one_thing_does_not_open_another(cloud: Cloud) -> None:
    ann = _sign_in(cloud, "ann")
    ticket = cloud.identity.issue_ticket(ann, scope="studio:1")
    for scope in (None, "studio:2"):
        with pytest.raises(Unauthenticated):
            cloud.identity.tokens.redeem_ticket(ticket.secret, scope=scope)
    session = cloud.identity.tokens.redeem_ticket(ticket.secret, scope="studio:1")
    found = cloud.identity.authenticate(session.secret)
    assert found is not None
    assert not found.is_full


def test_a_ticket_is_too_old_after_two_minutes(cloud: Cloud) -> None:
    clock = Clock()
    identity = Identity(cloud.db, clock)
    admin = identity.authenticate(cloud.settings.token_file.read_text().strip())
    assert admin is not None
    ticket = identity.issue_ticket(admin)
    clock.now += 121
    with pytest.raises(Unauthenticated):
        identity.tokens.redeem_ticket(ticket.secret)


def test_one_ticket_raced_by_many_opens_one_session(cloud: Cloud) -> None:
    ticket = cloud.identity.issue_ticket(_sign_in(cloud, "ann"))
    barrier = threading.Barrier(6)

    def redeem(_: int) -> bool:
        barrier.wait(60)
        try:
            cloud.identity.tokens.redeem_ticket(ticket.secret)
        except Unauthenticated:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(redeem, range(6))) == 1


def test_a_workload_token_reaches_only_its_teamspace_as_its_role(cloud: Cloud) -> None:
    cloud.identity.people.create_teamspace("other", owner="admin")
    issued = cloud.identity.issue_token("admin", scope="job/train", teamspace="default", role="member")
    workload = cloud.identity.authenticate(issued.secret)
    assert workload is not None
    cloud.identity.authorize(workload, "create", "run", "default")
    with pytest.raises(NotFound):
        cloud.identity.authorize(workload, "read", "job", "other")
    for action, kind, teamspace in [
        ("update", "member", "default"),
        ("create", "token", None),
        ("create", "user", None),
    ]:
        with pytest.raises(Forbidden):
            cloud.identity.authorize(workload, action, kind, teamspace)


def test_a_workload_token_is_worth_no_more_than_its_user(cloud: Cloud) -> None:
    _sign_in(cloud, "ann", "member")
    issued = cloud.identity.issue_token("ann", scope="job/a", teamspace="default", role="member")
    cloud.identity.people.set_member("default", "ann", "viewer", actor="admin")
    found = cloud.identity.authenticate(issued.secret)
    assert found is not None
    assert found.roles == {"default": Role.VIEWER}
    cloud.identity.people.remove_member("default", "ann", actor="admin")
    found = cloud.identity.authenticate(issued.secret)
    assert found is not None
    assert found.roles == {}


@pytest.mark.parametrize(
    ("role", "action", "kind", "may"),
    [
        ("viewer", "read", "job", True),
        ("viewer", "create", "job", False),
        ("viewer", "reveal", "secret", False),
        ("viewer", "use", "deployment", False),
        ("viewer", "read", "bill", True),
        ("member", "create", "job", True),
        ("member", "shell", "studio", True),
        ("member", "reveal", "secret", True),
        ("member", "create", "budget", False),
        ("member", "update", "member", False),
        ("member", "read", "audit", False),
        ("owner", "create", "budget", True),
        ("owner", "update", "member", True),
        ("owner", "read", "audit", True),
        ("owner", "fly", "job", False),
    ],
)
def test_roles_may_do_what_the_table_says(role: str, action: str, kind: str, may: bool) -> None:
    assert permitted(Role[role.upper()], action, kind) is may


def test_every_kind_has_rules_for_reading_and_writing() -> None:
    spoken = {(action, kind) for rule in RULES for action in rule.actions for kind in rule.kinds}
    for kind in KINDS:
        assert {(action, kind) for action in ("read", "create", "update", "delete")} <= spoken


def test_a_stranger_does_not_learn_that_a_teamspace_exists(cloud: Cloud) -> None:
    eve = _sign_in(cloud, "eve")
    with pytest.raises(NotFound) as existing:
        cloud.identity.authorize(eve, "read", "job", "default")
    with pytest.raises(NotFound) as missing:
        cloud.identity.authorize(eve, "read", "job", "nowhere")
    assert existing.value.message.replace("default", "nowhere") == missing.value.message


def test_the_last_owner_cannot_leave_or_step_down(cloud: Cloud) -> None:
    people = cloud.identity.people
    with pytest.raises(Conflict, match="only owner"):
        people.remove_member("default", "admin", actor="admin")
    with pytest.raises(Conflict, match="only owner"):
        people.set_member("default", "admin", "viewer", actor="admin")
    _sign_in(cloud, "ann", "owner")
    people.remove_member("default", "admin", actor="ann")


def test_a_first_start_is_made_once_and_a_lost_token_file_is_replaced(cloud: Cloud) -> None:
    file = cloud.settings.token_file
    first = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    bootstrap(cloud)
    assert file.read_text() == first
    file.unlink()
    bootstrap(cloud)
    admin = cloud.identity.authenticate(file.read_text().strip())
    assert admin is not None
    assert (admin.user, admin.is_admin, admin.roles) == ("admin", True, {"default": Role.OWNER})


# -- audit -------------------------------------------------------------------------------------------------


def _tamper(cloud: Cloud, statement: str) -> None:
    with sqlite3.connect(cloud.settings.data_dir / "blixt.db") as connection:
        connection.execute(statement)
    connection.close()


def _some_history(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.store.create("studio", "default", name, {}, owner="admin", actor="admin")


def test_an_untouched_audit_log_verifies(cloud: Cloud) -> None:
    _some_history(cloud)
    verdict = cloud.audit.verify()
    assert (verdict.ok, verdict.entries) == (True, 6)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 5", "Entry 5 was changed"),
        ("UPDATE audit SET detail = '{}' WHERE seq = 4", "Entry 4 was changed"),
        ("DELETE FROM audit WHERE seq = 4", "Entry 4 is missing"),
        ("DELETE FROM audit WHERE seq >= 5", "ends at entry 4, but 6"),
        ("DELETE FROM audit", "ends at entry 0"),
    ],
)
def test_a_changed_audit_log_does_not_verify(cloud: Cloud, statement: str, says: str) -> None:
    _some_history(cloud)
    _tamper(cloud, statement)
    verdict = cloud.audit.verify()
    assert not verdict.ok
    assert says in verdict.problem


def test_a_deed_that_fails_leaves_no_entry(cloud: Cloud) -> None:
    before = cloud.audit.verify().entries
    with pytest.raises(Invalid):
        cloud.store.create("studio", "default", "UPPER", {}, owner="admin", actor="admin")
    assert cloud.audit.verify().entries == before


def test_entries_written_by_many_threads_make_one_chain(cloud: Cloud) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(
                lambda number: cloud.audit.write("ann", "shell", "studio", "default", f"s{number}"), range(30)
            )
        )
    assert cloud.audit.verify() == cloud.audit.verify().__class__(True, 33)


# -- secrets -----------------------------------------------------------------------------------------------


def _put(cloud: Cloud, value: str = "s3cr3t-value", name: str = "key") -> None:
    cloud.secrets.put("default", name, value, owner="admin", actor="admin")


def test_a_secret_comes_back_and_is_nowhere_on_the_disk(cloud: Cloud) -> None:
    _put(cloud)
    assert cloud.secrets.get("default", "key", actor="admin") == "s3cr3t-value"
    files = [file for file in cloud.settings.data_dir.rglob("*") if file.is_file()]
    assert not any(b"s3cr3t-value" in file.read_bytes() for file in files)
    assert cloud.settings.keys_file.stat().st_mode & 0o777 == 0o600


def test_reading_a_secret_is_in_the_audit_log_without_its_value(cloud: Cloud) -> None:
    _put(cloud)
    cloud.secrets.get("default", "key", actor="ann")
    entry = cloud.audit.list("default")[0]
    assert (entry.actor, entry.action, entry.name) == ("ann", "reveal", "key")
    assert "s3cr3t-value" not in json.dumps([item.to_json() for item in cloud.audit.list("default")])


def test_a_ciphertext_moved_to_another_name_does_not_decrypt(cloud: Cloud) -> None:
    _put(cloud, "one", "first")
    _put(cloud, "two", "second")
    with cloud.db.write() as s:
        first, second = s.execute(sa.select(tables.secrets).order_by(tables.secrets.c.updated_at)).mappings()
        s.execute(
            tables.secrets.update()
            .where(tables.secrets.c.object_uid == second["object_uid"])
            .values(nonce=first["nonce"], ciphertext=first["ciphertext"])
        )
    with pytest.raises(KeyFileError, match="does not decrypt"):
        cloud.secrets.get("default", "second", actor="admin")


def test_values_of_an_old_key_stay_readable_after_rotation(cloud: Cloud) -> None:
    _put(cloud, "old", "old")
    file = cloud.settings.keys_file
    data: dict[str, Any] = json.loads(file.read_text())
    data["keys"]["k2"] = data["keys"]["k1"][::-1].replace("=", "A")[:43] + "="
    data["current"] = "k2"
    file.write_text(json.dumps(data))
    _put(cloud, "new", "new")
    assert [cloud.secrets.get("default", name, actor="admin") for name in ("old", "new")] == ["old", "new"]
    with cloud.db.read() as s:
        assert sorted(s.scalars(sa.select(tables.secrets.c.key_id))) == ["k1", "k2"]


def test_a_lost_key_file_is_an_error_and_never_silently_replaced(cloud: Cloud) -> None:
    _put(cloud)
    cloud.settings.keys_file.unlink()
    with pytest.raises(KeyFileError, match="missing"):
        cloud.secrets.get("default", "key", actor="admin")
    with pytest.raises(KeyFileError):
        _put(cloud, name="another")
    assert not cloud.settings.keys_file.exists()


def test_deleting_a_secret_removes_its_ciphertext(cloud: Cloud) -> None:
    _put(cloud)
    cloud.store.delete(cloud.store.get("secret", "default", "key").uid, "admin")
    with cloud.db.read() as s:
        assert s.execute(sa.select(tables.secrets)).first() is None
