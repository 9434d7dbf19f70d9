"""A rank's heartbeat ends before Python shuts down."""

import subprocess
import sys

SCRIPT = """
import atexit, threading
from torch.distributed import TCPStore
from blixt.fabric.cluster import World
from blixt.fabric.pulse import start_pulse

def beating():
    return [thread.name for thread in threading.enumerate() if thread.name == "blixt-pulse"]

atexit.register(lambda: print(beating()))  # registered first, so it runs last
start_pulse(World(rank=0, world_size=2), TCPStore("127.0.0.1", 0, is_master=True))
print(beating())
"""


def test_the_heartbeat_is_over_when_python_begins_to_shut_down() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["['blixt-pulse']", "[]"]
