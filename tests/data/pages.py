"""Runs a page of the documentation: writes its files, runs its commands, and compares what they print.

A block ```` ```python title="name.py" ```` is a file. In a block ```` ```console ````, a line that begins
with `$ ` is a command, and what follows is its output. In it `...` stands for anything, and a number for any
number: sizes and losses differ a little between machines and versions. `python -m data.pages PAGE` fills in
what the commands print now, for a person to look at and commit.
"""

import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class Command:
    """A command of a page, what it should print, and what it printed."""

    words: str
    expected: str
    printed: str

    @property
    def holds(self) -> bool:
        """Whether it printed what the page says."""
        checker = doctest.OutputChecker()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        return checker.check_output(unnumbered(self.expected), unnumbered(self.printed), flags)


def unnumbered(text: str) -> str:
    """Return a text with every number as `0`."""
    return re.sub(r"\d+(?:[.,]\d+)*", "0", text)


def run_page(
    page: Path, folder: Path, replace: Mapping[str, str], environment: Mapping[str, str]
) -> list[Command]:
    """Write the files of a page and run its commands, in order, in a folder.

    Args:
        page: the page.
        folder: where; empty at first.
        replace: texts of the page that stand for others here, such as a bucket's address.
        environment: more variables for the commands.
    """
    done: list[Command] = []
    for kind, title, body in BLOCK.findall(page.read_text()):
        for text, other in replace.items():
            body = body.replace(text, other)
        if title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(body)
        elif kind == "console":
            done += [run(words, expected, folder, environment) for words, expected in commands(body)]
    return done


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block and what should follow each; a backslash goes on in the next line."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found: list[tuple[str, str]] = []
    for part in parts:
        lines = part.splitlines(keepends=True)
        count = 1
        while lines[count - 1].endswith("\\\n"):
            count += 1
        found.append(("".join(lines[:count]).rstrip("\n"), "".join(lines[count:]).rstrip() + "\n"))
    return found


def run(words: str, expected: str, folder: Path, environment: Mapping[str, str]) -> Command:
    """Run a command line with this environment's programs first on the path."""
    here = Path(sys.executable).parent
    variables = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "COLUMNS": "120", **environment}
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    return Command(
        words, expected, "\n".join(line.rstrip() for line in done.stdout.splitlines()).rstrip() + "\n"
    )


def filled(page: Path, done: list[Command]) -> str:
    """Return the page with what its commands printed."""
    results = iter(done)

    def fill(match: re.Match[str]) -> str:
        kind, title, body = match.groups()
        if title or kind != "console":
            return match[0]
        lines = [f"$ {words}\n{next(results).printed}".rstrip() for words, _ in commands(body)]
        return f"```{kind}\n" + "\n".join(lines) + "\n```"

    return BLOCK.sub(fill, page.read_text())


def material(page: str, folder: Path) -> None:
    """Put what a page begins with into a folder: data that other libraries wrote."""
    name = {"from-litdata": "litdata-0.2.76", "from-mds": "mds", "from-webdataset": "webdataset"}.get(page)
    if name is not None:
        shutil.copytree(Path(__file__).parent / "foreign" / "fixtures" / name, folder / "old-data")


def main(names: list[str]) -> None:
    """Fill in what the commands of pages print."""
    from data.servers import seaweed

    for name in names:
        page = Path(name)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
            work = Path(scratch) / "work"
            work.mkdir()
            material(page.stem, work)
            environment = {"BLIXT_CACHE": f"{scratch}/cache", "XDG_CACHE_HOME": f"{scratch}/cache"}
            replace: dict[str, str] = {}
            if page.stem == "s3":
                s3 = servers.enter_context(seaweed.shared(Path(scratch) / "seaweed"))
                environment |= s3.environment
                replace["s3://my-bucket"] = s3.location()
            text = filled(page, run_page(page, work, replace, environment))
            for shown, real in replace.items():
                text = text.replace(real, shown)
            page.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
