"""kill -9 of one of two workers under load: how every request ends, and how soon.

64 clients ask a model that takes 5 ms. After a second of load one worker is killed; the load goes on for
three more. Counted are the requests that were on their way when it died, or came later: answered, refused
with a 5xx, dropped with their connection, or without any end within ten seconds, and the longest wait for
an end. LitServe restarts its workers (`restart_workers=True`), mosec has a timeout of 10 s.

`python -m benchmarks.serve.kill [--rounds 3] [--quick]`
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serve._load import post
from benchmarks.serve._peers import BLIXT, LITSERVE, MOSEC, RESULTS, machine, peer

PEERS = (BLIXT, LITSERVE, MOSEC)
REQUEST = post(b'{"input": 4.0}')
CLIENTS = 64
BEFORE_S, AFTER_S, PATIENCE_S = 1.0, 3.0, 10.0


@dataclass
class Ends:
    """How the requests ended that the killing could have hurt."""

    answered: int = 0
    refused: int = 0
    dropped: int = 0
    endless: int = 0
    waits_s: list[float] = field(default_factory=list[float])


async def ask(port: int, ends: Ends, killed: asyncio.Event, until: float) -> None:
    """Be one client: ask again and again, on a new connection when the old one is gone."""
    reader = writer = None
    while time.perf_counter() < until:
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert reader is not None
                writer.write(REQUEST)
                status = await read_answer(reader)
        except TimeoutError:
            end = "endless"
        except (OSError, EOFError):
            end = "dropped"
        else:
            end = "answered" if status == 200 else "refused"
        if killed.is_set():
            setattr(ends, end, getattr(ends, end) + 1)
            ends.waits_s.append(time.perf_counter() - sent)
        if end in ("endless", "dropped") and writer is not None:
            writer.close()
            writer = None
            await asyncio.sleep(0.02)
    if writer is not None:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer that says its length; return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])


async def worker_of(port: int) -> int:
    """The process of one of the workers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.readuntil(b'pid":')
    digits = (await reader.readuntil(b"}"))[:-1]
    writer.close()
    return int(digits)


async def misfortune(port: int) -> Ends:
    """Load a server, kill a worker in the middle of it, and see how all ends."""
    ends, killed = Ends(), asyncio.Event()
    victim = await worker_of(port)
    until = time.perf_counter() + BEFORE_S + AFTER_S
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(ask(port, ends, killed, until))
        await asyncio.sleep(BEFORE_S)
        killed.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    return ends


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, nothing is written")
    arguments = parser.parse_args()
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, load {here['load_average']}, Python {here['python']}")
    runs: dict[str, list[Ends]] = {name: [] for name in PEERS}
    for _ in range(1 if arguments.quick else arguments.rounds):
        for name in PEERS:
            with peer(name, "who", REQUEST) as server:
                runs[name].append(asyncio.run(misfortune(server.port)))
    names = ("answered", "refused", "dropped", "endless")
    rows: dict[str, Any] = {}
    print(f"  {'':10s}" + "".join(f"{name:>10s}" for name in names) + f"{'longest wait s':>16s}")
    for name, ends in runs.items():
        counts = {key: statistics.median(getattr(end, key) for end in ends) for key in names}
        longest = max(max(end.waits_s, default=0.0) for end in ends)
        rows[name] = {**counts, "longest_wait_s": longest}
        print(f"  {name:10s}" + "".join(f"{counts[key]:>10.0f}" for key in names) + f"{longest:>16.2f}")
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "serve-kill.json"
        path.write_text(json.dumps({"machine": here, "rows": rows}, indent=1))
        print(f"written to {path}")


if __name__ == "__main__":
    main()
