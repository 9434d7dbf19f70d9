"""blixt llm generate, chat, serve: use a model."""

import sys
from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.llm_threads import set_threads
from blixt.cli.options import Json
from blixt.cli.output import print_json, say

ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder or .gguf file.")]
Partner = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, .gguf file, or server URL.")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0)]
TopP = Annotated[float | None, typer.Option(help="Only the likeliest up to this sum.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same text.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; a GPU if there is one.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; as stored.")]
Quantize = Annotated[str | None, typer.Option(help="Store weights as int8, int4, nf4 or fp8.")]
Context = Annotated[int | None, typer.Option(help="Longest prompt and answer, in tokens.", min=2)]
Speculate = Annotated[
    str | None,
    typer.Option(help="ngram, off, or the folder of a small model that guesses; else where it pays."),
]
Verify = Annotated[bool, typer.Option("--verify", help="First compare the files' checksums: 1 s a gigabyte.")]
Template = Annotated[str | None, typer.Option(help="A .jinja file or a prompt style, not the model's own.")]


def generate(
    model: ModelDir,
    prompt: Annotated[str, typer.Argument(help="What to continue.")],
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens.")] = 64,
    temperature: Temperature = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only the likeliest so many.")] = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeat it.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    speculate: Speculate = None,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Continue a prompt, printing as it goes."""
    set_threads()
    with room("llm", *ERRORS):
        from blixt import llm

        _check(model, verify)
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
            device=device,
            dtype=dtype,
            quantize=quantize,
            speculate=speculate,
        ):
            text.append(piece)
            if not json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    if json:
        print_json({"prompt": prompt, "text": "".join(text)})
    else:
        print()


def serve(
    model: ModelDir,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 picks a free one.")] = 8000,
    model_name: Annotated[str | None, typer.Option(help="What clients call it.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Ask clients for this key.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
    max_batch: Annotated[int | None, typer.Option(help="Requests side by side (16).", min=1)] = None,
    context: Context = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    speculate: Speculate = None,
    adapter: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of a LoRA; repeat it.")] = None,
    chat_template: Template = None,
    max_tokens: Annotated[int | None, typer.Option(help="Bound of answers without one.", min=1)] = None,
    verify: Verify = False,
) -> None:
    """Serve a model with the OpenAI API (chat, completions, responses, embeddings)."""
    set_threads(share=workers)
    with room("llm", *ERRORS):
        from blixt import llm

        _check(model, verify)
        llm.serve(
            model,
            host=host,
            port=port,
            model_name=model_name,
            api_key=api_key,
            workers=workers,
            max_batch=max_batch,
            context=context,
            dtype=dtype,
            quantize=quantize,
            speculate=speculate,
            adapters=_named(adapter),
            chat_template=chat_template,
            max_tokens=max_tokens,
        )


def chat(
    model: Partner,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 256,
    temperature: Temperature = 0.8,
    top_p: TopP = None,
    seed: Seed = None,
    model_name: Annotated[str | None, typer.Option(help="Which of a server's models.")] = None,
    api_key: Annotated[str | None, typer.Option(help="A server's key; $OPENAI_API_KEY.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    context: Context = None,
    speculate: Speculate = None,
    chat_template: Template = None,
    verify: Verify = False,
) -> None:
    """Talk with a model, here or on a server, in this terminal."""
    options = {
        "dtype": dtype,
        "quantize": quantize,
        "context": context,
        "speculate": speculate,
        "chat_template": chat_template,
    }
    set_threads()
    with room("llm", *ERRORS):
        from blixt import llm

        _check(model, verify)
        llm.chat(
            model,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            model_name=model_name,
            api_key=api_key,
            device=device,
            **{name: value for name, value in options.items() if value is not None},
        )


def _check(model: str, verify: bool) -> None:
    """Refuse a model whose numbers changed since they were written; a server's address is no model here."""
    if verify and "://" not in model:
        from blixt.llm.weights.checksums import verify as compare

        count = compare(model)
        say(f"{model}: the numbers of {count} file{'s' * (count != 1)} are as they were written")


def _named(pairs: list[str] | None) -> dict[str, str] | None:
    """`NAME=FOLDER` pairs as a mapping."""
    if not pairs:
        return None
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not NAME=FOLDER", param_hint="--adapter")
    return dict(pair.split("=", 1) for pair in pairs)
