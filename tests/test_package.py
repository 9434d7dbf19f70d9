"""What `import blixt` promises."""

import subprocess
import sys

import pytest

import blixt

HEAVY = ("torch", "numpy", "fastapi", "sqlalchemy", "httpx", "rich", "typer")


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
    )


def test_importing_blixt_loads_nothing_heavy() -> None:
    assert loaded_after("import blixt") == set()


@pytest.mark.parametrize("room", ["data", "serve", "client", "cloud", "cli.main"])
def test_rooms_without_torch_do_not_load_it(room: str) -> None:
    assert "torch" not in loaded_after(f"import blixt.{room}")


@pytest.mark.parametrize("name", blixt.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(blixt, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trianer'"):
        blixt.Trianer  # noqa: B018 - the access is the test
