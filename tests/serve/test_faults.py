"""Bad luck: killed, hung and failing workers, floods, signals, a port that is taken."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import httpx
import psutil
import pytest

from blixt.serve import Limits, Server
from blixt.serve.testing import running, wait_until

from .apis import BadSetup, Sleeper, StubbornSetup, Ticker, Tools, Unpicklable

pytestmark = pytest.mark.anyio


async def eventually(condition, what):
    await asyncio.to_thread(wait_until, condition, 60, what)


async def ask(client, **request):
    return await client.post("/predict", json=request, timeout=60)


async def test_kill_9_under_load_ends_every_request_and_the_pool_heals():
    with running(Server(Sleeper(), accelerator="cpu", workers_per_device=2, timeout_s=20)) as service:
        victim = service.worker_pids()[0]
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=service.url, limits=limits) as client:
            tasks = [asyncio.create_task(ask(client, s=0.02)) for _ in range(100)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            os.kill(victim, signal.SIGKILL)
            statuses = [answer.status_code for answer in await asyncio.wait_for(asyncio.gather(*tasks), 60)]
            # Only what the victim was computing fails; what it had merely been sent is done by the other.
            assert statuses.count(200) >= 98
            assert set(statuses) <= {200, 503}
        await eventually(
            lambda: service.metric("blixt_serve_worker_restarts_total") == 1, "the death to be noticed"
        )
        await eventually(lambda: service.metric("blixt_serve_workers_ready") == 2, "the pool to heal")
        assert service.metric("blixt_serve_worker_restarts_total") == 1


async def test_with_one_worker_waiting_requests_survive_its_death():
    with running(Server(Sleeper(), accelerator="cpu", timeout_s=200)) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            running_one = asyncio.create_task(ask(client, s=600))
            await eventually(lambda: in_flight(service.url) == 1, "the first request")
            others = [asyncio.create_task(ask(client, s=0)) for _ in range(5)]
            await eventually(lambda: in_flight(service.url) == 6, "those that wait behind it")
            os.kill(service.worker_pids()[0], signal.SIGKILL)
            assert (await running_one).status_code == 503
            assert [(await other).status_code for other in others] == [200] * 5


async def test_a_dying_worker_ends_its_streams_with_an_error_event():
    with running(Server(Ticker(), accelerator="cpu")) as service:
        with httpx.stream("POST", f"{service.url}/ticks", json={"n": 1000, "pause_s": 0.05}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data:")
            os.kill(service.worker_pids()[0], signal.SIGKILL)
            rest = list(lines)
        assert "event: error" in rest
        assert '"status":503' in rest[rest.index("event: error") + 1]


async def test_a_predict_that_hangs_is_504_and_its_worker_is_replaced():
    with running(
        Server(Sleeper(), accelerator="cpu", timeout_s=2, limits=Limits(kill_grace_s=0.1))
    ) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            (before,) = service.worker_pids()
            answer = await ask(client, s=1000)
            assert (answer.status_code, answer.json()) == (504, {"detail": "No answer within 2 s."})
            await eventually(lambda: service.worker_pids() not in ([before], []), "a new worker")
            await eventually(lambda: reachable(service.url), "readiness")
            await eventually(lambda: answers(service.url), "an answer within its 2 s")


async def test_a_flood_is_429_with_retry_after_and_the_server_answers_afterwards():
    with running(Server(Sleeper(), accelerator="cpu", max_queue=4)) as service:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=service.url, limits=limits) as client:
            answers = await asyncio.gather(*(ask(client, s=0.2) for _ in range(40)))
            statuses = [answer.status_code for answer in answers]
            assert set(statuses) == {200, 429}
            assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
            assert (await ask(client, s=0)).status_code == 200


async def test_clients_that_left_the_queue_cost_nothing(tmp_path):
    with running(Server(Sleeper(), accelerator="cpu")) as service:
        async with httpx.AsyncClient(base_url=service.url, limits=httpx.Limits(max_connections=30)) as client:
            gate = tmp_path / "gate"
            first = asyncio.create_task(ask(client, gate=str(gate)))
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 1, "the first to run")
            gone = [asyncio.create_task(ask(client, s=3)) for _ in range(20)]
            for task in gone:
                task.add_done_callback(lambda t: t.cancelled() or t.exception())
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 21, "the queue to fill")
            for task in gone:
                task.cancel()
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 1, "their leaving")
            gate.touch()
            assert (await first).status_code == 200
            last = await asyncio.wait_for(ask(client, s=0), 40)  # 20 x 3 s of work are gone
            assert last.status_code == 200


async def test_sigterm_finishes_what_was_admitted_refuses_the_rest_and_exits_0(tmp_path):
    with running(Server(Sleeper(), accelerator="cpu")) as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        async with httpx.AsyncClient(base_url=service.url) as client:
            gate = tmp_path / "gate"
            started = asyncio.create_task(ask(client, gate=str(gate)))
            await eventually(lambda: service.metric("blixt_serve_in_flight") == 1, "the request to run")
            os.kill(service.process.pid, signal.SIGTERM)
            await eventually(lambda: not reachable(service.url), "draining")
            refused = await ask(client, s=0)
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert httpx.get(f"{service.url}/health").status_code == 200
            gate.touch()
            assert (await started).status_code == 200
        assert service.wait(60) == 0
        _, alive = psutil.wait_procs(family, timeout=60)
        assert alive == []


async def test_a_setup_that_fails_says_so_and_exits_3_after_its_restarts(capfd):
    limits = Limits(max_setup_failures=2, backoff_s=0.01)
    with running(Server(BadSetup(), accelerator="cpu", limits=limits), ready=False) as service:
        assert service.wait(60) == 3
    err = capfd.readouterr().err
    assert "error: BadSetup.setup('cpu') failed." in err
    assert "FileNotFoundError: weights.bin is missing" in err


async def test_a_failed_setup_ends_its_worker_even_if_a_thread_goes_on():
    limits = Limits(max_setup_failures=1, stop_s=0.2)
    with running(Server(StubbornSetup(), accelerator="cpu", limits=limits), ready=False) as service:
        assert service.wait(60) == 3


async def test_an_api_that_cannot_be_pickled_is_explained(tmp_path):
    script = tmp_path / "lambda_app.py"
    script.write_text(
        "from blixt.serve import API, Server\n"
        "class Holder(API):\n"
        "    def __init__(self): super().__init__(); self.f = lambda x: x\n"
        "    def predict(self, x): return x\n"
        "if __name__ == '__main__': Server(Holder(), accelerator='cpu').run(port=0)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "Holder cannot be sent to a worker" in done.stderr
    assert Unpicklable().predict(1) == 1


async def test_a_port_in_use_is_one_clear_sentence_and_exit_98(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            Server(Tools(), accelerator="cpu").run(port=port)
    assert ended.value.code == 98
    err = capfd.readouterr().err
    assert err == (
        f"blixt serve: error: 127.0.0.1:{port} is in use by another program. "
        "Choose another port, or 0 for a free one.\n"
    )


def start_script(tmp_path, **popen):
    script = tmp_path / "sleepy_app.py"
    script.write_text(
        "import time\nfrom blixt.serve import API, Server\n"
        "class Sleepy(API):\n"
        "    def predict(self, s): time.sleep(s); return s\n"
        "if __name__ == '__main__': Server(Sleepy(), accelerator='cpu').run(port=0)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, **popen)
    line = process.stdout.readline()
    url = next(word for word in line.split() if word.startswith("http://"))
    wait_until(lambda: reachable(url), 60, "readiness")
    return process, url


def answers(url):
    return httpx.post(f"{url}/predict", json={}).status_code == 200


def reachable(url):
    try:
        return httpx.get(f"{url}/ready", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


async def test_ctrl_c_reaches_the_whole_group_and_leaves_no_process(tmp_path):
    process, url = start_script(tmp_path, start_new_session=True, stderr=subprocess.PIPE)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert httpx.URL(url).port


async def test_a_second_ctrl_c_does_not_wait_for_running_work(tmp_path):
    process, url = start_script(tmp_path)
    async with httpx.AsyncClient() as client:
        slow = asyncio.create_task(client.post(f"{url}/predict", json=600, timeout=60))
        await eventually(lambda: in_flight(url) == 1, "the request to run")
        process.send_signal(signal.SIGINT)
        await eventually(lambda: not reachable(url), "draining")
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert (await slow).status_code == 503
    process.stdout.close()


def in_flight(url):
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("blixt_serve_in_flight"))


async def test_workers_end_when_the_front_is_killed():
    with running(Server(Sleeper(), accelerator="cpu")) as service:
        workers = [psutil.Process(pid) for pid in service.worker_pids()]
        service.process.kill()
        assert psutil.wait_procs(workers, timeout=60)[1] == []
