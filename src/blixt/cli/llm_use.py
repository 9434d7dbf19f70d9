"""blixt llm generate, chat, serve: use a model."""

import sys
from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.options import Json
from blixt.cli.output import print_json

ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder.")]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.", min=0)]


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
    with room("llm", *ERRORS):
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


def serve(
    model: ModelDir,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 picks a free one.")] = 8000,
    model_name: Annotated[str | None, typer.Option(help="What clients call it.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Ask clients for this key.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
) -> None:
    """Serve a model with the OpenAI API (chat, completions, streams)."""
    with room("llm", *ERRORS):
        from blixt import llm

        llm.serve(model, host=host, port=port, model_name=model_name, api_key=api_key, workers=workers)


def chat(
    model: ModelDir,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 256,
    temperature: Temperature = 0.8,
) -> None:
    """Talk with a model in this terminal."""
    with room("llm", *ERRORS):
        from blixt import llm

        llm.chat(model, max_tokens=max_tokens, temperature=temperature)
