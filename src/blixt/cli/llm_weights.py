"""blixt llm download, convert, info, validate: a model's files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blixt.cli.failure import CliError, room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.options import Json
from blixt.cli.output import byte_progress, print_fields, print_json, print_table, say, size

if TYPE_CHECKING:
    from blixt.llm.weights.info import ModelInfo

Checkpoint = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or a .gguf file.")]


def download(
    name: Annotated[str, typer.Argument(help="ORGANISATION/MODEL on the Hugging Face hub.")],
    directory: Annotated[str | None, typer.Argument(help="Where to; the model's name by default.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    file: Annotated[str | None, typer.Option(help="The weights file to take, such as a GGUF's name.")] = None,
    token: Annotated[
        str | None, typer.Option(help="For private and gated models.", envvar="HF_TOKEN")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Another hub; HF_ENDPOINT or huggingface.co.")] = None,
    json: Json = False,
) -> None:
    """Fetch a model from the hub; run it again after an interruption and it goes on."""
    with room("llm", *ERRORS), byte_progress(name, None) as bar:
        from blixt.llm.weights.download import download as fetch

        def show(done: int, total: int) -> None:
            bar.update(bar.task_ids[0], completed=done, total=total)

        options = {"revision": revision, "file": file, "token": token, "endpoint": endpoint}
        path = fetch(name, directory, progress=show, **options)
    if json:
        print_json({"path": str(path)})
    else:
        say(f"{name} is in {path}")


def convert(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, a .gguf file, a litgpt checkpoint.")
    ],
    target: Annotated[str, typer.Argument(help="A new folder, or a file that ends in .gguf.")],
    dtype: Annotated[
        str | None, typer.Option(help="Of a folder's weights: float32, bfloat16, float16.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Of a GGUF: f16, bf16, f32, q8_0, q6_k, q5_k_m, q4_k_m, q4_0, mxfp4 ...")
    ] = "f16",
    max_shard_gb: Annotated[
        float, typer.Option(help="A larger model becomes several files.", min=0.001)
    ] = 5.0,
    json: Json = False,
) -> None:
    """Write a model in another form: Hugging Face folder, GGUF, another dtype, other shards."""
    with room("llm", *ERRORS):
        from blixt.llm.weights.convert import convert as write

        path = write(model, target, dtype=dtype, format=format, max_shard_bytes=int(max_shard_gb * 1e9))
    if json:
        print_json({"path": str(path), "bytes": _bytes_of(path)})
    else:
        say(f"{path} ({size(_bytes_of(path))})")


def info(model: Checkpoint, json: Json = False) -> None:
    """A model's layers, parameters, and the memory it takes in each precision."""
    with room("llm", *ERRORS):
        from blixt.llm.weights.info import info as describe

        found = describe(model)
    if json:
        print_json(found)
        return
    _print_summary(found)
    print_table(
        ["part", "of", ">each", ">in all"],
        [
            (part.name, part.kind, _count(part.parameters), _count(part.parameters * part.count))
            for part in found.parts
        ],
        empty="no layers",
    )
    print()
    print_table(
        ["precision", ">context", ">weights", ">keys, values", ">in all"],
        [
            (f.precision, f"{f.context}", size(f.memory.weights), size(f.memory.kv), size(f.memory.total))
            for f in found.footprints
        ],
        empty="no precisions",
    )


def validate(
    model: Checkpoint,
    context: Annotated[int, typer.Option(help="Tokens in a sequence; the model's by default.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Sequences at once.", min=1)] = 1,
    precision: Annotated[str, typer.Option(help="float32, bfloat16, int8, int4 ...; as stored.")] = "",
    device: Annotated[str, typer.Option(help="Where it will run, such as cuda:0.")] = "cpu",
    training: Annotated[bool, typer.Option(help="For a training of all parameters.")] = False,
    output: Annotated[Path | None, typer.Option(help="Where checkpoints will go.")] = None,
    numbers: Annotated[bool, typer.Option(help="Read every number.")] = True,
    json: Json = False,
) -> None:
    """Look at everything a long run needs before it starts."""
    with room("llm", *ERRORS):
        from blixt.llm.weights.validate import Wish
        from blixt.llm.weights.validate import validate as look

        wish = Wish(context, batch, precision, device, training, output, numbers)
        findings = list(look(model, wish))
    if json:
        print_json(findings)
    else:
        rows = [(finding.check, finding.verdict, finding.text) for finding in findings]
        print_table(["check", "verdict", "found"], rows, empty="nothing was looked at")
    failed = [finding for finding in findings if finding.verdict == "failed"]
    if failed:
        raise CliError(f"{model} is not ready: {failed[0].text}")


def _print_summary(found: "ModelInfo") -> None:
    stored = ", ".join(f"{_count(count)} in {kind}" for kind, count in found.stored.items())
    active = (
        f", {_count(found.active_parameters)} active" if found.active_parameters < found.parameters else ""
    )
    print_fields(
        {
            "model": found.path,
            "family": found.model_type,
            "parameters": f"{_count(found.parameters)}{active}",
            "stored": f"{stored}; {size(found.file_bytes)} on disk",
            "context": f"{found.context} tokens",
            "vocabulary": f"{found.vocab} tokens" + (", output tied to the embedding" if found.tied else ""),
            "cache": f"{size(found.cache_bytes_per_token)} a token in 16 bits",
        }
    )
    print()


def _count(number: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= limit:
            return f"{number / limit:.2f}{unit}"
    return str(number)


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
