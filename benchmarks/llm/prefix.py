"""Eight requests with the same first 256 tokens, as a system prompt makes them: who computes those once?

SmolLM2-135M in float32, greedy, one thread, CPU seconds of the process, same tokens.

    python -m benchmarks.llm.prefix [--rounds 2] [--out FILE]
"""

import torch
from benchmarks.llm._measure import options, write
from benchmarks.llm._serving_peers import (
    blixt,
    litgpt_model,
    litgpt_one_by_one,
    texts,
    transformers_continuous,
    transformers_model,
    transformers_padded,
)
from benchmarks.llm.serving import compare


def main() -> None:
    given = options("prefix", 2, __doc__)
    torch.set_num_threads(1)
    ids = texts(1000)
    work = [(ids[:256] + ids[300 + 20 * i : 312 + 20 * i], 16) for i in range(8)]
    hf = transformers_model()
    peers = {
        "blixt": blixt(),
        "blixt, prefix cache off": blixt(prefix_cache=False),
        "litgpt, one by one": litgpt_one_by_one(litgpt_model()),
        "transformers, one padded batch": transformers_padded(hf, 8),
        "transformers, continuous": transformers_continuous(hf),
    }
    goals = {"litgpt, one by one": 3.0}
    found = compare("8 requests, 256 tokens shared, 12 own, 16 new", peers, work, given.rounds, goals)
    write(given.out, given.rounds, found)


if __name__ == "__main__":
    main()
