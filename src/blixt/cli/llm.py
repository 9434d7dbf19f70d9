"""blixt llm ...: train, try and serve language models."""

import sys
from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.options import Json, group
from blixt.cli.output import print_json, say

app = group("Train, try and serve language models.")
Inputs = Annotated[list[str], typer.Argument(help="Files or folders of text.")]
Pattern = Annotated[str, typer.Option(help="Which files of a folder.")]
MaxBytes = Annotated[str, typer.Option(help="Read no more text than this.")]
ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder.")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0)]
_ERRORS = ("LLMError", "DataError", "ServeError", "FabricError", "TrainerError")


@app.command("train-tokenizer")
def train_tokenizer(
    inputs: Inputs,
    out: Annotated[str, typer.Option(help="The file to write.")] = "tokenizer.json",
    vocab_size: Annotated[int, typer.Option(help="How many tokens.")] = 2048,
    pattern: Pattern = "*.py",
    max_bytes: MaxBytes = "8MB",
    json: Json = False,
) -> None:
    """Train a byte-level BPE tokenizer."""
    with room("llm", *_ERRORS):
        from blixt import llm

        path = llm.train_tokenizer(
            inputs, out=out, vocab_size=vocab_size, pattern=pattern, max_bytes=max_bytes
        )
    if json:
        print_json({"path": str(path), "vocab_size": vocab_size})
    else:
        say(f"The tokenizer is in {path}.")


@app.command()
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
    with room("llm", *_ERRORS):
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


@app.command()
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
    with room("llm", *_ERRORS):
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


@app.command()
def generate(
    model: ModelDir,
    prompt: Annotated[str, typer.Argument(help="What to continue.")],
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens.")] = 64,
    temperature: Temperature = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only the likeliest so many.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest up to this sum.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeat it.")] = None,
    json: Json = False,
) -> None:
    """Continue a prompt, printing as it goes."""
    with room("llm", *_ERRORS):
        from blixt import llm

        text: list[str] = []
        for piece in llm.generate(
            model,
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
        ):
            text.append(piece)
            if not json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    if json:
        print_json({"prompt": prompt, "text": "".join(text)})
    else:
        print()


@app.command()
def serve(
    model: ModelDir,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 picks a free one.")] = 8000,
    model_name: Annotated[str | None, typer.Option(help="What clients call it.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Ask clients for this key.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
) -> None:
    """Serve a model with the OpenAI API (chat, completions, streams)."""
    with room("llm", *_ERRORS):
        from blixt import llm

        llm.serve(model, host=host, port=port, model_name=model_name, api_key=api_key, workers=workers)


@app.command()
def chat(
    model: ModelDir,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 256,
    temperature: Temperature = 0.8,
) -> None:
    """Talk with a model in this terminal."""
    with room("llm", *_ERRORS):
        from blixt import llm

        llm.chat(model, max_tokens=max_tokens, temperature=temperature)
