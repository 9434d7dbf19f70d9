"""The commands of `blixt data` that write: build, convert, merge."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from blixt.cli.data_keys import EncryptWith, encryption
from blixt.cli.failure import CliError, room
from blixt.cli.options import Json, parse_env
from blixt.cli.output import print_json, say, size, waiting

Output = Annotated[
    str, typer.Option("--output", "-o", help="The new dataset: a folder or s3://..., gs://..., az://...")
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=0, help="Processes; one per core by default.")
]
Mode = Annotated[
    str | None, typer.Option("--mode", help="`append` or `overwrite`, where a dataset is there.")
]
ChunkBytes = Annotated[
    str | None, typer.Option("--chunk-bytes", help="About how large a shard may grow: 64MB.")
]
Compress = Annotated[str | None, typer.Option("--compress", help="`zstd` or `zstd:LEVEL`.")]
StoreOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="For the store, such as endpoint=http://...; repeat it."
    ),
]


def store(options: list[str] | None) -> dict[str, Any]:
    """Arguments for a store, from `--option KEY=VALUE`."""
    return {"options": parse_env(options)} if options else {}


def build(
    function: Annotated[str, typer.Argument(help="`file.py:function` or `package.module:function`.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders (every file below) or patterns; one input each. Or one folder in a store, "
            "s3://bucket/folder/, whose files are fetched."
        ),
    ] = None,
    output: Output = ...,  # pyright: ignore[reportArgumentType]
    inputs_from: Annotated[
        str | None,
        typer.Option("--inputs-from", metavar="FILE", help="One input a line; `-` is standard input."),
    ] = None,
    rows: Annotated[
        bool,
        typer.Option("--rows", help="The input is a dataset (Parquet, tar, ...): call it with each row."),
    ] = False,
    workers: Workers = None,
    mode: Mode = None,
    chunk_bytes: ChunkBytes = None,
    compress: Compress = None,
    encrypt: EncryptWith = None,
    executor: Annotated[
        str, typer.Option("--executor", help="`local`, `ranks`, `leases` or `ray`.")
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume/--anew", help="Go on from a build that broke off.")
    ] = True,
    try_first: Annotated[int, typer.Option("--try", metavar="N", help="Only the first N inputs.")] = 0,
    options: StoreOptions = None,
    json: Json = False,
) -> None:
    """Call a function on every input and write what it returns as a dataset.

    blixt data build prepare.py:tokenize books/ -o corpus
    """
    fn = load_function(function)
    with room("data", "DataError", "ValueError"):
        from blixt import data

        items, fetched = _items(inputs or [], inputs_from, rows, store(options))
        given: dict[str, Any] = {
            **fetched,
            "chunk_bytes": chunk_bytes,
            "mode": mode,
            "compress": compress,
            "encrypt": encryption(encrypt),
            **store(options),
        }
        if executor != "local":
            given["executor"] = executor
        if try_first:
            given["fast_dev_run"] = try_first
        snapshot = data.optimize(
            fn,
            items,
            output,
            num_workers=workers,
            resume=resume,
            progress=False if json else None,
            **{name: value for name, value in given.items() if value is not None},
        )
    _written(snapshot, output, json)


def convert(
    source: Annotated[
        str, typer.Argument(help="A LitData, MDS, webdataset, Parquet or Hugging Face dataset.")
    ],
    output: Annotated[str, typer.Argument(help="The new dataset's folder.")],
    format: Annotated[
        str | None,
        typer.Option("--format", help="litdata, mds, webdataset, parquet, huggingface; found out by itself."),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="Only this column; repeat it.")
    ] = None,
    key_file: Annotated[
        str | None, typer.Option("--key-file", help="LitData: what FernetEncryption.save wrote.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            "--password", envvar="BLIXT_DATA_PASSWORD", show_envvar=True, help="LitData: for the key file."
        ),
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickles, which can run any code, and store them.")
    ] = False,
    workers: Workers = None,
    mode: Mode = None,
    chunk_bytes: ChunkBytes = None,
    compress: Compress = None,
    encrypt: EncryptWith = None,
    options: StoreOptions = None,
    json: Json = False,
) -> None:
    """Write another library's dataset as one of ours, without loss."""
    with room("data", "DataError", "ValueError"):
        from blixt.data import foreign

        reader: dict[str, Any] = {"columns": columns} if columns else {}
        if allow_pickle:
            reader["allow_pickle"] = True
        if key_file is not None:
            if password is None:
                raise CliError("--key-file needs --password, too.", "Or set BLIXT_DATA_PASSWORD.", 2)
            reader["decrypt"] = foreign.fernet(key_file, password)
        access = store(options)
        name = format or foreign.detect(source, **access)
        try:
            opened = foreign.open_foreign(source, name, **reader, **access)
        except TypeError as problem:
            raise CliError(f"A {name} dataset does not know this option: {problem}.", "", 2) from None
        given: dict[str, Any] = {
            "chunk_bytes": chunk_bytes,
            "mode": mode,
            "compress": compress,
            "encrypt": encryption(encrypt),
            "allow_pickle": allow_pickle or None,
        }
        snapshot = foreign.convert(
            opened,
            output,
            num_workers=workers,
            progress=False if json else None,
            **{key: value for key, value in given.items() if value is not None},
        )
    _written(snapshot, output, json, source_format=name)


def merge(
    inputs: Annotated[list[str], typer.Argument(help="Datasets with the same columns.")],
    output: Output = ...,  # pyright: ignore[reportArgumentType]
    mode: Mode = None,
    encrypt: EncryptWith = None,
    options: StoreOptions = None,
    json: Json = False,
) -> None:
    """Put datasets behind one another as one new dataset."""
    with room("data", "DataError", "ValueError"), waiting(f"Merging into {output}"):
        from blixt import data

        given: dict[str, Any] = {"mode": mode} if mode else {}
        first, *others = (data.open_store(place, **store(options)) for place in (output, *inputs))
        snapshot = data.merge(others, first, encrypt=encryption(encrypt), **given)
    _written(snapshot, output, json)


def load_function(name: str) -> Callable[[Any], Any]:
    """Import `file.py:function` or `package.module:function`, so that worker processes find it, too.

    Raises:
        CliError: when there is no such file, module or function.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute:
        raise CliError(
            f"{name!r} does not name a function.", "Write file.py:function or package.module:function.", 2
        )
    module = where
    if where.endswith(".py"):
        path = Path(where)
        if not path.is_file():
            raise CliError(f"There is no file {where}.", "", 2)
        sys.path.insert(0, str(path.resolve().parent))
        module = path.stem
    else:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as problem:
        raise CliError(f"{where} cannot be imported: there is no module {problem.name!r}.", "", 2) from None
    if not callable(found):
        raise CliError(f"{where} has no function {attribute!r}.", "", 2)
    return found


def _items(
    inputs: Sequence[str], inputs_from: str | None, rows: bool, access: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The inputs, and what else `optimize` is told about them."""
    if rows:
        return _rows_of(inputs), {}
    if len(inputs) == 1 and inputs_from is None and "://" in inputs[0] and inputs[0].endswith("/"):
        from blixt.data import list_files

        return list_files(inputs[0], **access), {"input_dir": inputs[0], "input_options": access}
    return _listed(inputs, inputs_from), {}


def _listed(inputs: Sequence[str], inputs_from: str | None) -> list[str]:
    """Every file that the inputs name, in order; folders and patterns sorted."""
    items: list[str] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            items += sorted(str(file) for file in path.rglob("*") if file.is_file())
        elif any(sign in name for sign in "*?["):
            items += sorted(
                str(file) for file in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
            )
        elif path.exists() or "://" in name:
            items.append(name)
        else:
            raise CliError(f"There is no file {name}.", "", 2)
    if inputs_from is not None:
        text = sys.stdin.read() if inputs_from == "-" else Path(inputs_from).read_text()
        items += [line for line in text.splitlines() if line.strip()]
    if not items:
        raise CliError("There are no inputs.", "Name files, folders or patterns, or use --inputs-from.", 2)
    return items


def _rows_of(inputs: Sequence[str]) -> Any:
    if len(inputs) != 1:
        raise CliError(
            "--rows takes exactly one input, a dataset.", "A folder or a pattern names several files.", 2
        )
    from blixt.data.foreign import open_foreign

    return open_foreign(inputs[0])


def _written(snapshot: Any, output: str, json: bool, **more: Any) -> None:
    facts = {
        "output": output,
        "version": snapshot.version,
        "rows": snapshot.rows,
        "size_bytes": snapshot.size_bytes,
        "shards": len(snapshot.shards),
        **more,
    }
    if json:
        print_json(facts)
        return
    say(
        f"Wrote version {snapshot.version} of {output}: {snapshot.rows:,} rows in {len(snapshot.shards)} "
        f"shards, {size(snapshot.size_bytes)}."
    )
