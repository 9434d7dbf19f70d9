"""Studios: a machine to work in, whose files stay and whose walls hold."""

import json
import signal

import pytest
from tests.cloud.runtime.cluster import Cluster, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def studio(cluster: Cluster) -> str:
    cluster.create("studios", "work")
    cluster.wait_state("studios", "work", "running")
    return "work"


def test_a_command_gives_stdout_stderr_and_its_exit_code(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, "echo out; echo err >&2; exit 3")
    assert (ran.stdout, ran.stderr, ran.exit) == ("out\n", "err\n", 3)


def test_a_command_that_does_not_exist_exits_127_and_says_so(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, ["no-such-program"])
    assert ran.exit == 127
    assert "no-such-program: command not found" in ran.stderr


def test_a_command_over_its_time_is_killed(cluster: Cluster, studio: str) -> None:
    assert cluster.exec(studio, "sleep 600", timeout_s=0.2).exit == 124


def test_a_megabyte_of_output_arrives_whole(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, ["python", "-c", "print('é' * 500_000)"])
    assert ran.stdout == "é" * 500_000 + "\n"


def test_python_and_blixt_of_the_server_are_on_the_path(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, "python -c 'import blixt; print(blixt.__version__)' && which blixt")
    assert ran.exit == 0, ran.stderr


@pytest.mark.usefixtures("sandbox")
def test_the_environment_names_the_studio_and_carries_a_working_token(cluster: Cluster, studio: str) -> None:
    script = (
        "import os, json, urllib.request as u\n"
        "r = u.Request(os.environ['BLIXT_URL'] + '/api/v1/whoami',"
        " headers={'Authorization': 'Bearer ' + os.environ['BLIXT_TOKEN']})\n"
        "print(u.urlopen(r).read().decode())\n"
        "print(os.environ['BLIXT_KIND'], os.environ['BLIXT_NAME'], os.environ['HOME'])"
    )
    ran = cluster.exec(studio, ["python", "-c", script])
    assert ran.stdout.endswith("studio work /home/blixt\n"), ran.stderr
    assert [space["name"] for space in json.loads(ran.stdout.splitlines()[0])["teamspaces"]] == ["default"]


def test_secrets_arrive_as_variables(cluster: Cluster) -> None:
    cluster.http.put("teamspaces/default/secrets/api-key", json={"value": "s3cret"}).raise_for_status()
    cluster.create("studios", "secretive", secrets=["api-key"], env={"COLOUR": "red"})
    assert cluster.exec("secretive", "echo $API_KEY $COLOUR").stdout == "s3cret red\n"
    cluster.http.delete("teamspaces/default/studios/secretive").raise_for_status()


@pytest.mark.usefixtures("sandbox")
def test_the_server_data_folder_and_other_homes_are_invisible(cluster: Cluster, studio: str) -> None:
    cluster.create("studios", "other")
    cluster.exec("other", "echo private > ~/diary")
    names = "-name diary -o -name blixt.db -o -name shadow"
    skip = "-path /usr -prune -o -path /proc -prune -o -path /work -prune -o"
    script = f"ls {cluster.data_dir} ; find / {skip} -type f \\( {names} \\) -print 2>/dev/null"
    ran = cluster.exec(studio, script)
    assert ran.stdout == ""
    assert "No such file" in ran.stderr
    cluster.http.delete("teamspaces/default/studios/other").raise_for_status()


@pytest.mark.usefixtures("sandbox")
def test_a_sandbox_sees_only_its_own_processes_and_is_not_root(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, "ls -d /proc/[0-9]* | wc -l; id -u; cat /proc/self/status | grep CapEff")
    count, uid, capabilities = ran.stdout.splitlines()
    assert int(count) < 10
    assert uid != "0"
    assert capabilities.split()[1].strip("0") == ""


def test_the_system_is_read_only(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(
        studio, "touch /usr/x; touch /x; echo x > /proc/sys/kernel/core_pattern; touch /tmp/ok && echo ok"
    )
    assert ran.stdout == "ok\n"


@pytest.mark.usefixtures("sandbox")
def test_temporary_and_shared_memory_are_writable_and_private(cluster: Cluster, studio: str) -> None:
    cluster.create("studios", "tempted")
    use = "from multiprocessing.shared_memory import SharedMemory as S; S(create=True, size=9).unlink()"
    script = f'python -c "{use}"'
    assert cluster.exec(studio, f"touch /tmp/mine /dev/shm/mine && {script}").exit == 0
    assert cluster.exec("tempted", "ls /tmp /dev/shm | grep mine").stdout == ""
    cluster.http.delete("teamspaces/default/studios/tempted").raise_for_status()


def test_a_sandbox_resolves_its_own_name_and_sees_the_interfaces(cluster: Cluster, studio: str) -> None:
    code = (
        "import os, socket; print(socket.gethostbyname(socket.gethostname()), os.listdir('/sys/class/net'))"
    )
    ran = cluster.exec(studio, ["python", "-c", code])  # what gloo and NCCL ask before ranks can meet
    assert ran.stdout.startswith("127.0.0.1 ["), ran.stderr
    assert "'lo'" in ran.stdout


@pytest.mark.usefixtures("sandbox")
def test_the_agents_token_is_on_no_command_line(cluster: Cluster, studio: str) -> None:
    ran = cluster.exec(studio, "cat /proc/1/cmdline | tr '\\0' ' '; ls /run/blixt")
    assert "agent.json" not in ran.stdout.split("agent.json", 1)[1]  # named once, and gone from the folder
    assert "blx_" not in ran.stdout


def test_a_file_is_written_and_read_back(cluster: Cluster, studio: str) -> None:
    content = bytes(range(256)) * 2000
    path = "teamspaces/default/studios/work/files/deep/er/data.bin"
    written = cluster.http.put(path, content=content, params={"mode": "755"})
    assert written.json() == {"path": "deep/er/data.bin", "size_bytes": len(content)}
    assert cluster.http.get(path).content == content
    assert cluster.exec(studio, "stat -c %a deep/er/data.bin").stdout == "755\n"


def test_a_file_that_is_not_there_is_404_and_a_folder_409(cluster: Cluster, studio: str) -> None:
    base = "teamspaces/default/studios/work/files"
    assert cluster.http.get(f"{base}/nothing").status_code == 404
    assert cluster.http.get(f"{base}/teamspace").status_code == 409


def test_the_teamspace_folder_is_shared(cluster: Cluster, studio: str) -> None:
    cluster.create("studios", "neighbour")
    cluster.exec(studio, "echo shared > ~/teamspace/note")
    assert cluster.exec("neighbour", "cat ~/teamspace/note").stdout == "shared\n"
    cluster.http.delete("teamspaces/default/studios/neighbour").raise_for_status()


def test_stop_and_start_keep_the_files(cluster: Cluster) -> None:
    cluster.create("studios", "keeper")
    cluster.exec("keeper", "echo kept > ~/file")
    cluster.post("studios/keeper/stop").raise_for_status()
    cluster.wait_state("studios", "keeper", "stopped")
    refused = cluster.post("studios/keeper/exec", command="true")
    assert refused.status_code == 409
    assert "stopped" in refused.json()["error"]["message"]
    cluster.post("studios/keeper/start").raise_for_status()
    assert cluster.exec("keeper", "cat ~/file").stdout == "kept\n"
    assert cluster.bill_lines("keeper")[0]["segments"] == 2


def test_starting_without_money_is_refused_at_the_door(cluster: Cluster) -> None:
    cluster.http.post("teamspaces", json={"name": "broke"}).raise_for_status()
    cluster.create("studios", "dream", teamspace="broke", desired="stopped")
    cluster.create("budgets", "none", teamspace="broke", limit_uc=1, period="total", applies_to="teamspace")
    answer = cluster.http.post("teamspaces/broke/studios/dream/start")
    assert answer.status_code == 402
    assert "budget 'none'" in answer.json()["error"]["message"]
    assert cluster.http.get("teamspaces/broke/studios/dream").json()["spec"]["desired"] == "stopped"


def test_deleting_a_studio_removes_its_home(cluster: Cluster) -> None:
    created = cluster.create("studios", "brief")
    cluster.exec("brief", "echo x > ~/x")
    home = cluster.data_dir / "volumes" / "default" / f"studio-{created['uid']}"
    assert home.is_dir()
    cluster.http.delete("teamspaces/default/studios/brief").raise_for_status()
    path = "teamspaces/default/studios/brief"
    wait_until(lambda: cluster.http.get(path).status_code == 404, "the Studio is gone")
    assert not home.exists()


def test_an_idle_studio_goes_to_sleep(cluster: Cluster) -> None:
    cluster.create("studios", "sleepy", idle_timeout_s=1)
    found = cluster.wait_state("studios", "sleepy", "stopped")
    wait_until(
        lambda: cluster.get("studios", "sleepy")["spec"]["desired"] == "stopped", "it was told to stop"
    )
    assert found["status"]["state"] == "stopped"


def _terminal(cluster: Cluster, session: str, token: str | None = None, **headers: str):
    url = cluster.url.replace("http", "ws", 1) + "/api/v1/teamspaces/default/studios/work/terminal"
    bearer = {"Authorization": f"Bearer {token or cluster.token}"}
    return connect(
        f"{url}?cols=91&rows=17&session={session}",
        additional_headers={**bearer, **headers},
        proxy=None,
        open_timeout=60,
    )


def _read_until(socket, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        piece = socket.recv(timeout=60)
        seen += piece.decode() if isinstance(piece, bytes) else piece
    return seen


def test_a_terminal_has_a_size_and_gives_its_exit(cluster: Cluster, studio: str) -> None:
    with _terminal(cluster, "one") as socket:
        socket.send(b"stty size; tty\n")
        assert "/dev/pts/" in (seen := _read_until(socket, "/dev/pts/"))
        assert "17 91" in seen
        socket.send(json.dumps({"resize": [40, 20]}))
        socket.send(b"stty size\n")
        _read_until(socket, "20 40")
        socket.send(b"exit 4\n")
        assert json.loads(_read_until(socket, '"exit"').rsplit("\n", 1)[-1]) == {"exit": 4}


def test_a_terminal_survives_a_lost_connection(cluster: Cluster, studio: str) -> None:
    with _terminal(cluster, "two") as socket:
        socket.send(b"export KEPT=yes; echo mark-$((40+2))\n")
        _read_until(socket, "mark-42")
    with _terminal(cluster, "two") as socket:
        assert "mark-42" in _read_until(socket, "mark-42")  # the screen is replayed
        socket.send(b"echo it-is-$KEPT\n")
        _read_until(socket, "it-is-yes")


def test_control_c_reaches_what_runs_in_a_terminal(cluster: Cluster, studio: str) -> None:
    ignored = int(cluster.exec(studio, "grep SigIgn /proc/self/status").stdout.split()[1], 16)
    assert not ignored & 1 << signal.SIGINT - 1
    with _terminal(cluster, "four") as socket:
        socket.send(b"sh -c 'echo be\"\"gin; exec sleep 600'\n")
        _read_until(socket, "begin")
        socket.send(b"\x03")
        _read_until(socket, "$ ")
        socket.send(b"echo still-$((40+3))\n")
        _read_until(socket, "still-43")


def test_a_terminal_without_a_name_ends_with_its_viewer(cluster: Cluster, studio: str) -> None:
    with _terminal(cluster, "") as socket:
        socket.send(b"touch /tmp/shell-$$; ls /tmp/shell-*\n")
        _read_until(socket, "/tmp/shell-")
    script = "for f in /tmp/shell-*; do test -d /proc/${f##*-} && echo alive; done; true"
    wait_until(lambda: cluster.exec(studio, script).stdout == "", "the shell is gone")


def test_a_terminal_needs_a_right_and_the_right_origin(cluster: Cluster, studio: str) -> None:
    with pytest.raises(InvalidStatus) as refused, _terminal(cluster, "x", token="wrong"):
        pass
    assert refused.value.response.status_code == 401
    cookie = {"Cookie": f"blixt_session={cluster.token}", "Origin": "http://evil.example"}
    url = cluster.url.replace("http", "ws", 1) + "/api/v1/teamspaces/default/studios/work/terminal"
    with (
        pytest.raises(InvalidStatus) as foreign,
        connect(url, additional_headers=cookie, proxy=None, open_timeout=60),
    ):
        pass
    assert foreign.value.response.status_code == 403


def test_shells_and_commands_are_in_the_audit_log(cluster: Cluster, studio: str) -> None:
    cluster.exec(studio, "echo audited")
    with _terminal(cluster, "three"):
        pass
    entries = cluster.http.get("teamspaces/default/audit", params={"limit": 50}).json()["items"]
    seen = {(entry["action"], entry["name"]) for entry in entries}
    assert {("exec", "work"), ("shell", "work")} <= seen


def test_jupyter_opens_on_the_studios_own_origin(cluster: Cluster, studio: str) -> None:
    answer = cluster.post("studios/work/open", app="jupyter")
    assert answer.status_code == 200, answer.text
    url = answer.json()["url"]
    assert url.startswith("http://jupyter-")
    again = cluster.post("studios/work/open", app="jupyter")
    assert again.status_code == 200


def test_an_unknown_application_is_refused(cluster: Cluster, studio: str) -> None:
    answer = cluster.post("studios/work/open", app="emacs")
    assert answer.status_code == 404
    assert "emacs" in answer.json()["error"]["message"]


def test_a_viewer_may_look_but_not_enter(cluster: Cluster, studio: str) -> None:
    made = cluster.http.post("users", json={"name": "vera"}).json()
    cluster.http.put("teamspaces/default/members/vera", json={"role": "viewer"}).raise_for_status()
    vera = cluster.client(made["token"])
    assert vera.get("teamspaces/default/studios/work").status_code == 200
    assert vera.post("teamspaces/default/studios/work/exec", json={"command": "id"}).status_code == 403
    assert vera.post("teamspaces/default/studios/work/stop").status_code == 403
    with pytest.raises(InvalidStatus) as refused, _terminal(cluster, "v", token=made["token"]):
        pass
    assert refused.value.response.status_code == 403
