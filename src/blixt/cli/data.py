"""blixt data ...: build, look into, check, convert and merge datasets of blixt.data."""

from typing import Annotated, Any, cast

import typer

from blixt.cli import data_keys, data_write
from blixt.cli.data_keys import KeyFile
from blixt.cli.failure import room
from blixt.cli.options import Json, group
from blixt.cli.output import ago, print_fields, print_json, print_table, say, size, waiting

app = group("Build, look into, check, convert and merge datasets of blixt.data.")
app.command()(data_write.build)
app.command()(data_write.convert)
app.command()(data_write.merge)

Location = Annotated[
    str,
    typer.Argument(help="A folder, s3://..., gs://..., az://..., https://... or hf://...", metavar="DATASET"),
]
Version = Annotated[int | None, typer.Option("--version", help="The version to read; the newest by default.")]
StoreOptions = data_write.StoreOptions
_LONG = 60


@app.command()
def info(
    location: Location, version: Version = None, options: StoreOptions = None, json: Json = False
) -> None:
    """Show a dataset's columns, sizes, shards and versions."""
    with room("data", "DataError"):
        from blixt import data

        facts: dict[str, Any] = data.info(location, version, **data_write.store(options))
    if json:
        print_json(facts)
        return
    fields = {
        "dataset": str(facts["path"]),
        "version": _version(facts),
        "written": ago(facts.get("created_at")),
        "rows": f"{facts['rows']:,}",
        "size": size(facts["size_bytes"]),
        "shards": _shards(facts),
        "compressed": str(facts.get("compress") or ""),
        "encrypted": str(facts.get("encryption") or ""),
    }
    print_fields(fields)
    print()
    rows = _columns(facts)
    kept = [0, 1, *(place for place in (2, 3, 4) if any(row[place] for row in rows))]
    headings = ("column", "type", ">tokens", ">stored", ">share")
    cells = [[row[place] for place in kept] for row in rows]
    print_table([headings[place] for place in kept], cells, empty="It has no columns.")


def _version(facts: dict[str, Any]) -> str:
    older = len(facts.get("versions") or ()) - 1
    return str(facts["version"]) + (f" (and {older} other{'s' * (older > 1)})" if older > 0 else "")


def _shards(facts: dict[str, Any]) -> str:
    bounds: dict[str, int] = facts.get("shard_bytes") or {}
    if not bounds or facts["shards"] < 2:
        return str(facts["shards"])
    return f"{facts['shards']:,}, {size(bounds['smallest'])} to {size(bounds['largest'])}"


def _columns(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    stored: dict[str, int] = facts.get("column_bytes") or {}
    tokens: dict[str, int] = facts.get("tokens") or {}
    whole = sum(stored.values())
    return [
        (
            name,
            kind,
            f"{tokens[name]:,}" if name in tokens else "",
            size(stored[name]) if name in stored else "",
            f"{100 * stored[name] / whole:.1f} %" if name in stored and whole else "",
        )
        for name, kind in facts["columns"].items()
    ]


@app.command()
def verify(
    location: Location,
    version: Version = None,
    key: KeyFile = None,
    options: StoreOptions = None,
    json: Json = False,
) -> int:
    """Compare every byte of a dataset with its checksums; exits with 1 and says where something is wrong."""
    with room("data", "DataError"), waiting(f"Reading {location}"):
        from blixt import data

        report = data.verify(location, version, **data_keys.key(key), **data_write.store(options))
    if json:
        print_json(
            {
                "ok": report.ok,
                "problems": report.problems,
                "shards": report.shards,
                "rows": report.rows,
                "size_bytes": report.size_bytes,
            }
        )
        return 0 if report.ok else 1
    for problem in report.problems:
        say(f"error: {problem}")
    if report.ok:
        say(f"Sound: {report.rows:,} rows in {report.shards} shards, {size(report.size_bytes)}.")
    else:
        say(f"{len(report.problems)} of {report.shards} shards are damaged.")
    return 0 if report.ok else 1


@app.command()
def head(
    location: Location,
    rows: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 5,
    version: Version = None,
    key: KeyFile = None,
    options: StoreOptions = None,
    json: Json = False,
) -> None:
    """Print the first samples; large values by their shape or length."""
    with room("data", "DataError"):
        from blixt import data

        samples = data.head(location, rows, version, **data_keys.key(key), **data_write.store(options))
    if json:
        print_json([_plain(sample) for sample in samples])
        return
    for number, sample in enumerate(samples):
        if isinstance(sample, dict):
            fields = cast("dict[str, Any]", sample)
            print_fields({f"{number}": "", **{name: shown(value) for name, value in fields.items()}})
            print()
        else:
            print(shown(sample))


def shown(value: Any) -> str:
    """A value in one line: text is cut, bytes and arrays are told by size and shape."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONG else f"{value[:_LONG]!r}... ({len(value):,} characters)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(cast("bytes", value))
        return repr(data) if len(data) <= _LONG // 2 else f"{size(len(data))} beginning {data[:12]!r}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array: Any = value
        few = int(array.size) <= 8 if isinstance(array.size, int) else int(array.numel()) <= 8
        return f"{array.dtype}{list(array.shape)}" + (f" {array.tolist()}" if few else "")
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return "{" + ", ".join(f"{name}: {shown(one)}" for name, one in fields.items()) + "}"
    if isinstance(value, (list, tuple)):
        items = list(cast("tuple[Any, ...]", value))
        return "[" + ", ".join(map(shown, items[:8])) + (", ..." if len(items) > 8 else "") + "]"
    return repr(value)


def _plain(value: Any) -> Any:
    """A value as JSON can say it: bytes as text where they are text, else by their size."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": len(cast("bytes", value))}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("list[Any]", value)]
    return value


@app.command()
def cache(
    folder: Annotated[
        str | None, typer.Option("--dir", help="The cache's folder; BLIXT_CACHE or yours.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete what is not in use right now.")] = False,
    json: Json = False,
) -> None:
    """Show what remote datasets have left on this machine, or delete it."""
    with room("data", "DataError"):
        from blixt.data.cache import open_cache

        opened = open_cache(folder)
        freed, kept = opened.clear() if clear else (0, 0)
        entries = sorted(opened.entries(), key=lambda entry: entry.used_at, reverse=True)
    facts = {
        "folder": str(opened.folder),
        "limit_bytes": opened.limit_bytes,
        "size_bytes": opened.size(),
        "entries": [
            {
                "name": entry.name,
                "disk_bytes": entry.disk_bytes,
                "size_bytes": entry.size_bytes,
                "used_at": entry.used_at,
            }
            for entry in entries
        ],
    }
    if clear:
        facts |= {"freed_bytes": freed, "kept_in_use": kept}
    if json:
        print_json(facts)
        return
    if clear:
        say(f"Freed {size(freed)}." + (f" {kept} files are in use and stay." if kept else ""))
    print_fields(
        {"folder": str(opened.folder), "size": f"{size(opened.size())} of at most {size(opened.limit_bytes)}"}
    )
    print_table(
        ("file", ">on disk", ">whole", "used"),
        [
            (entry.name, size(entry.disk_bytes), size(entry.size_bytes), ago(entry.used_at))
            for entry in entries
        ],
        empty="Nothing is cached.",
    )
