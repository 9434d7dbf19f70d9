import threading

import pytest

from blixt.client import (
    Client,
    Conflict,
    Experiment,
    InvalidRequest,
    NotFound,
    ServerUnreachable,
    Unauthorized,
    WaitTimeout,
)
from blixt.client.watch import wait_until
from client.server import Server


def test_the_server_knows_who_calls(client: Client) -> None:
    identity = client.whoami()
    assert identity.user == "admin"
    assert client.teamspace in [teamspace.name for teamspace in identity.teamspaces]
    assert identity.server_version


def test_a_wrong_token_is_unauthorized(server: Server) -> None:
    with pytest.raises(Unauthorized) as caught:
        Client(server.url, "wrong").whoami()
    assert caught.value.status == 401


def test_no_server_is_said_at_once_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blixt.client.http.backoff_s", lambda attempt: pytest.fail("it is tried again"))
    with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:9 .*blixt up"):
        Client("http://127.0.0.1:9", "x").whoami()


def test_a_page_that_is_no_api_is_recognised(server: Server) -> None:
    with pytest.raises(NotFound):
        server.client().http.json("GET", "/no-such-route")


def test_machines_have_prices(client: Client) -> None:
    offers = {machine.name: machine for machine in client.machines()}
    assert offers["cpu-1"].price_uc_per_hour > 0


def test_a_fresh_teamspace_owes_nothing(teamspace: Client) -> None:
    bill = teamspace.bill()
    assert (bill.lines, bill.total_uc, bill.budget_uc) == ((), 0, None)


def test_members_and_tokens_come_and_go(server: Server, teamspace: Client) -> None:
    user = "u-" + teamspace.teamspace
    token = teamspace.create_user(user)
    teamspace.set_member(user, "viewer")
    assert {member.user: member.role for member in teamspace.members()}[user] == "viewer"
    with Client(server.url, token, teamspace.teamspace) as theirs:
        assert theirs.whoami().user == user
        made = theirs.create_token("laptop", expires_s=60)
        theirs.revoke_token(made["id"])
    teamspace.remove_member(user)
    assert user not in [member.user for member in teamspace.members()]


def test_the_second_of_two_updates_learns_that_it_is_too_late(teamspace: Client) -> None:
    seen = Experiment.create("shared", client=teamspace).data
    teamspace.update_object("experiments", seen, {"description": "first"})
    with pytest.raises(Conflict):
        teamspace.update_object("experiments", seen, {"description": "second"})
    assert Experiment.get("shared", client=teamspace).spec["description"] == "first"


def test_a_wrong_field_is_named(teamspace: Client) -> None:
    with pytest.raises(InvalidRequest, match="descripton"):
        teamspace.create_object("experiments", "e", {"descripton": "x"})


def test_a_wait_ends_with_the_change_it_waits_for(server: Server, teamspace: Client) -> None:
    experiment = Experiment.create("watched", client=teamspace)
    waiting = threading.Event()
    states: list[str] = []

    def done(data: object) -> bool:
        waiting.set()
        states.append(data.spec["description"])  # type: ignore[attr-defined]
        return states[-1] == "now"

    def change() -> None:
        waiting.wait(60)
        with server.client(teamspace.teamspace) as other:
            other.patch_object("experiments", "watched", {"description": "now"})

    changer = threading.Thread(target=change)
    changer.start()
    found = wait_until(teamspace, "experiments", experiment.data, done, 120)
    changer.join()
    assert found.spec["description"] == "now"
    assert states == ["", "now"]


def test_a_wait_that_is_not_met_times_out_and_says_so(teamspace: Client) -> None:
    experiment = Experiment.create("still", client=teamspace)
    with pytest.raises(WaitTimeout, match=r"experiment 'still' is still unknown after 0\.2 s"):
        wait_until(teamspace, "experiments", experiment.data, lambda _: False, 0.2)


def test_a_wait_for_something_deleted_meanwhile_ends(server: Server, teamspace: Client) -> None:
    experiment = Experiment.create("going", client=teamspace)
    experiment.delete()
    with pytest.raises(NotFound, match="was deleted"):
        wait_until(teamspace, "experiments", experiment.data, lambda _: False, 20)


def test_the_console_link_is_good_for_one_sign_in(client: Client) -> None:
    import httpx

    ticket = client.console_url().partition("ticket=")[2]
    answers = [
        httpx.post(f"{client.url}/api/v1/login", json={"ticket": ticket}).status_code for _ in range(2)
    ]
    assert answers == [200, 401]
