"""Run a command, wait for it and for every process it leaves behind, and print the CPU time of all of them.

Workers may be grandchildren of whom nobody has counted the time, so this process adopts orphans (Linux).
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
_LINGER_S = 15.0


def main() -> None:
    """Run the command line's command."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        lines = [command.stdout.readline()]
        while lines[-1] and not lines[-1].startswith("RESULT "):
            lines.append(command.stdout.readline())
        cpu, rss, status = reap(command.pid)
        command.returncode = status
    if not lines[-1]:
        sys.exit(f"{' '.join(sys.argv[1:])} gave no result (status {status}):\n{''.join(lines)}")
    result = json.loads(lines[-1].removeprefix("RESULT "))
    result["cpu_s"] = cpu - result.pop("cpu_before_s")
    result["rss_mb"] = rss / 1024
    print(json.dumps(result))


def reap(pid: int) -> tuple[float, int, int]:
    """Wait until no process is left; return their CPU seconds, the largest one's memory, and the status."""
    cpu, rss, status, deadline = 0.0, 0, 0, None
    while True:
        try:
            ended, code, usage = os.wait4(-1, 0 if deadline is None else os.WNOHANG)
        except ChildProcessError:
            return cpu, rss, status
        if ended == 0:
            if time.monotonic() > (deadline or 0):
                kill_the_rest()
            time.sleep(0.02)
            continue
        cpu += usage.ru_utime + usage.ru_stime
        rss = max(rss, usage.ru_maxrss)
        if ended == pid:
            status, deadline = code, time.monotonic() + _LINGER_S


def kill_the_rest() -> None:
    """End processes that outlive the command: they are this one's children by now."""
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        for child in children.read().split():
            os.kill(int(child), signal.SIGKILL)


if __name__ == "__main__":
    main()
