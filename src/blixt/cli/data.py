"""blixt data ...: look into datasets written by blixt.data."""

from typing import Annotated, Any

import typer

from blixt.cli.failure import room
from blixt.cli.options import Json, group
from blixt.cli.output import print_fields, print_json, say, size

app = group("Look into and check datasets of blixt.data.")
Folder = Annotated[str, typer.Argument(help="The dataset's folder.")]


@app.command()
def info(path: Folder, json: Json = False) -> None:
    """Show what a dataset holds."""
    with room("data", "DataError"):
        from blixt import data

        facts: dict[str, Any] = data.info(path)
    if json:
        print_json(facts)
        return
    shown = {key: str(value) for key, value in facts.items()}
    if "size_bytes" in facts:
        shown["size_bytes"] += f" ({size(facts['size_bytes'])})"
    print_fields(shown)


@app.command()
def verify(path: Folder, json: Json = False) -> int:
    """Check every shard of a dataset; exits with 1 when something is wrong."""
    with room("data", "DataError"):
        from blixt import data

        report = data.verify(path)
    if json:
        print_json(
            {"ok": report.ok, "problems": report.problems, "shards": report.shards, "rows": report.rows}
        )
    else:
        for problem in report.problems:
            say(f"error: {problem}")
        if report.ok:
            say(f"Sound: {report.rows} rows in {report.shards} shards, {size(report.size_bytes)}.")
    return 0 if report.ok else 1


@app.command()
def head(
    path: Folder,
    rows: Annotated[int, typer.Option("-n", help="How many samples.")] = 5,
    json: Json = False,
) -> None:
    """Print the first samples of a dataset."""
    with room("data", "DataError"):
        from blixt import data

        samples = data.head(path, rows)
    if json:
        print_json(samples)
        return
    for sample in samples:
        print(repr(sample))
