"""SmolLM2 in fewer bits: CPU time of generated tokens for 1 and 8 requests, memory, perplexity.

Formats take turns in one process; greedy tokens of the float model are not expected of the others, their cost
in perplexity is printed instead. Goal: int8-dynamic not slower than float32 at 1 request,
1.5 times as fast at 8.

    python -m benchmarks.llm.quantised
"""

import inspect
import textwrap

import torch
from benchmarks.llm._measure import compare, options, show, write
from tests.llm.smollm2 import smollm2_dir

from blixt.llm import LLM, perplexity

FORMATS = (None, "int8", "int8-dynamic", "int4")
TOKENS = 16


def bytes_of(llm: LLM) -> int:
    """Size of all parameters and codes."""
    return sum(tensor.nbytes for tensor in llm.model.state_dict().values())


def main() -> None:
    """Compare and write."""
    arguments = options("quantised", 5, __doc__)
    torch.set_num_threads(1)
    models = {name or "float32": LLM.load(smollm2_dir(), context=256, quantize=name) for name in FORMATS}
    prompt = "The capital of France is"

    def generate(llm: LLM, requests: int) -> object:
        prompts = [f"{prompt} {number}" for number in range(requests)]
        return llm.generate(prompts, max_tokens=TOKENS, temperature=0, ignore_eos=True)

    print(f"\n{'format':44}{'MB':>10}{'perplexity':>12}{'ratio':>8}")
    costs: dict[str, dict[str, float]] = {}
    plain = 0.0
    for name, llm in models.items():
        text = llm.tokenizer.encode(inspect.getsource(textwrap))[:256]
        value = perplexity(llm.model, [text]).perplexity
        plain = plain or value
        costs[name] = {"bytes": bytes_of(llm), "perplexity": value, "ratio": value / plain}
        print(f"  {name:42}{bytes_of(llm) / 1e6:10.1f}{value:12.3f}{value / plain:8.3f}")
    results: dict[str, object] = {"cost": costs}
    for requests in (1, 8):
        found = compare(
            {name: (lambda llm=llm, n=requests: generate(llm, n)) for name, llm in models.items()},
            arguments.rounds,
        )
        for row in found.values():
            row["tokens_per_cpu_s"] = requests * TOKENS / row["median_ms"] * 1e3
        show(f"{requests} request(s), {TOKENS} tokens each", found)
        results[f"requests {requests}"] = found
    write(arguments.out, arguments.rounds, results)


if __name__ == "__main__":
    main()
