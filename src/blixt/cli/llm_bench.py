"""blixt llm bench: how fast a model runs here."""

from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.llm_threads import set_threads
from blixt.cli.options import Json
from blixt.cli.output import print_json, say


def bench(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or a GGUF file.")],
    prompt_tokens: Annotated[int, typer.Option(help="Tokens in a prompt.", min=1)] = 128,
    max_tokens: Annotated[int, typer.Option(help="Tokens to generate.", min=1)] = 64,
    batch: Annotated[int, typer.Option(help="Requests at once.", min=1)] = 1,
    rounds: Annotated[int, typer.Option(help="Timed rounds; the median counts.", min=1)] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="Of the weights: float32, bfloat16, float16.")] = None,
    quantize: Annotated[str | None, typer.Option(help="int8, int4, nf4 or fp8.")] = None,
    json: Json = False,
) -> None:
    """Time a model on random prompts, each round once."""
    set_threads()
    with room("llm", *ERRORS):
        from blixt import llm

        loaded = llm.LLM.load(
            model, device, dtype=dtype, quantize=quantize, max_batch=batch, prefix_cache=False
        )
        facts = loaded.bench(prompt_tokens=prompt_tokens, max_tokens=max_tokens, batch=batch, rounds=rounds)
    if json:
        print_json(facts)
        return
    say(f"{batch} request(s) of {prompt_tokens} tokens, {max_tokens} new each, median of {rounds} rounds:")
    both, drawn = facts["total_tokens_per_s"], facts["tokens_per_s"]
    say(f"  {drawn:.1f} tokens/s generated, {both:.1f} with the prompts")
    say(f"  {facts['ttft_s'] * 1000:.0f} ms to the first token, {facts['cpu_seconds']:.2f} CPU s a round")
