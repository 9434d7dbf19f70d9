"""blixt llm train-tokenizer, prepare, pretrain: from text to a trained model."""

from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.options import Json
from blixt.cli.output import print_json, say

Inputs = Annotated[list[str], typer.Argument(help="Files or folders of text.")]
Pattern = Annotated[str, typer.Option(help="Which files of a folder.")]
MaxBytes = Annotated[str, typer.Option(help="Read no more text than this.")]


def train_tokenizer(
    inputs: Inputs,
    out: Annotated[str, typer.Option(help="The file to write.")] = "tokenizer.json",
    vocab_size: Annotated[int, typer.Option(help="How many tokens.")] = 2048,
    pattern: Pattern = "*.py",
    max_bytes: MaxBytes = "8MB",
    json: Json = False,
) -> None:
    """Train a byte-level BPE tokenizer."""
    with room("llm", *ERRORS):
        from blixt import llm

        path = llm.train_tokenizer(
            inputs, out=out, vocab_size=vocab_size, pattern=pattern, max_bytes=max_bytes
        )
    if json:
        print_json({"path": str(path), "vocab_size": vocab_size})
    else:
        say(f"The tokenizer is in {path}.")


def prepare(
    inputs: Inputs,
    tokenizer: Annotated[str, typer.Option(help="The tokenizer's file.")],
    out: Annotated[str, typer.Option(help="The folder to write.")],
    pattern: Pattern = "*.py",
    max_bytes: MaxBytes = "8MB",
    val_fraction: Annotated[float, typer.Option(help="Kept aside for validation.")] = 0.05,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    json: Json = False,
) -> None:
    """Turn text into token shards, for training and for validation."""
    with room("llm", *ERRORS):
        from blixt import llm

        facts = llm.prepare(
            inputs,
            tokenizer=tokenizer,
            out=out,
            pattern=pattern,
            max_bytes=max_bytes,
            val_fraction=val_fraction,
            workers=workers,
        )
    if json:
        print_json(facts)
    else:
        say(f"Wrote {out}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))


def pretrain(
    data: Annotated[str, typer.Argument(help="A folder that `blixt llm prepare` wrote.")],
    out: Annotated[str | None, typer.Option(help="The model's folder; $BLIXT_MODEL_OUT, or model.")] = None,
    preset: Annotated[str, typer.Option(help="The model's shape.")] = "demo",
    steps: Annotated[int, typer.Option(help="Optimizer steps.", min=1)] = 300,
    batch_size: Annotated[int, typer.Option(help="Sequences a step, over all ranks.")] = 16,
    block_size: Annotated[int, typer.Option(help="Tokens in a sequence.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="The peak.")] = 3e-3,
    precision: Annotated[str, typer.Option(help="32, bf16-mixed or 16-mixed.")] = "32",
    devices: Annotated[str, typer.Option(help="Processes to start here: a number, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same run.")] = 0,
    val_every: Annotated[int, typer.Option(help="Validate every so many steps.")] = 50,
    checkpoint_dir: Annotated[str | None, typer.Option(help="Keep checkpoints here, and resume.")] = None,
    json: Json = False,
) -> None:
    """Pretrain a GPT from scratch; joins the group when RANK and WORLD_SIZE are set."""
    with room("llm", *ERRORS):
        from blixt import llm

        metrics = llm.pretrain(
            data,
            out=out,
            preset=preset,
            steps=steps,
            batch_size=batch_size,
            block_size=block_size,
            learning_rate=learning_rate,
            precision=precision,
            devices=int(devices) if devices.isdecimal() else devices,
            seed=seed,
            val_every=val_every,
            checkpoint_dir=checkpoint_dir,
        )
    if json:
        print_json(metrics)
