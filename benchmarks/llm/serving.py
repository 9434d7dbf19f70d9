"""Requests of unequal length: the engine, litgpt and transformers, interleaved, with the same tokens.

SmolLM2-135M in float32, greedy, one thread, CPU seconds of the process. 16 mixed requests go to each as its
server would take them; 8 requests of one length are the best case of litgpt's batch function, which takes no
other; one request alone shows what a batch cannot help. The engine guesses n-grams where that pays: the same
tokens in fewer steps; transformers has that for a batch of one only. "no guesses" is without that default.
Where nothing can be guessed, in text drawn at a high temperature after random tokens, those two are compared.

    python -m benchmarks.llm.serving [--rounds 2] [--out FILE]
"""

import random
from functools import partial

import torch
from benchmarks.llm._measure import cpu_ms, options, show, summary, write
from benchmarks.llm._serving_peers import (
    Answers,
    Peer,
    Work,
    blixt,
    differing,
    litgpt_batch,
    litgpt_model,
    litgpt_one_by_one,
    texts,
    transformers_continuous,
    transformers_model,
    transformers_padded,
)


def compare(
    title: str, peers: dict[str, Peer], work: Work, rounds: int, goals: dict[str, float]
) -> dict[str, object]:
    """Time all in turns, print the table, check that the answers agree; the first is ours.

    Args:
        title: Of the table.
        peers: By name.
        work: What each has to answer.
        rounds: How often.
        goals: How many times as long as ours a peer should take.
    """
    answers: dict[str, Answers] = {}

    def keep(name: str, peer: Peer) -> None:
        answers[name] = peer(work)

    runs = {name: partial(keep, name, peer) for name, peer in peers.items()}
    for peer in peers.values():  # each warms up on the same few short requests
        peer([(work[0][0][:8], 12)] * min(4, len(work)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in runs if number % 2 else reversed(list(runs)):
            times[name].append(cpu_ms(runs[name]))
    ours = next(iter(runs))
    results = {name: summary(values, times[ours]) for name, values in times.items()}
    show(title, results)
    tokens = sum(count for _, count in work)
    different = {name: differing(answers[ours], answer) for name, answer in answers.items()}
    for row in results.values():
        row["tokens_per_s"] = tokens / row["median_ms"] * 1e3
    speed = ", ".join(f"{name} {row['tokens_per_s']:.1f}" for name, row in results.items())
    print(f"  {tokens} tokens generated; tokens per CPU second: {speed}")
    print(f"  answers that differ from ours: {different}")
    for name, goal in goals.items():
        for mine in (row for row in results if row.startswith("blixt")):
            ratio = results[name]["median_ms"] / results[mine]["median_ms"]
            print(f"  goal {goal:.2f} x {name}: {mine} {ratio:.2f}, {'met' if ratio >= goal else 'missed'}")
    return {"results": results, "differ": different, "generated": tokens, "goals": goals}


def mixed(ids: list[int]) -> Work:
    """16 prompts of 16 to 100 tokens that ask for 8 to 44."""
    draw = random.Random(1)
    return [(ids[120 * i : 120 * i + draw.randrange(16, 101)], draw.randrange(8, 45)) for i in range(16)]


def unguessable() -> Work:
    """16 prompts of random tokens."""
    draw = random.Random(2)
    return [([draw.randrange(100, 40_000) for _ in range(32)], 32) for _ in range(16)]


def main() -> None:
    given = options("serving", 2, __doc__)
    torch.set_num_threads(1)
    ids = texts(2500)
    ours, lone = blixt(), blixt(max_batch=1)
    plain = blixt(speculate="off")
    theirs, hf = litgpt_model(), transformers_model()
    found = {
        "16 mixed requests": compare(
            "16 mixed requests",
            {
                "blixt": ours,
                "blixt, no guesses": plain,
                "litgpt, one by one": litgpt_one_by_one(theirs),
                "transformers, padded batches of 8": transformers_padded(hf, 8),
                "transformers, padded batch of 16": transformers_padded(hf, 16),
                "transformers, continuous": transformers_continuous(hf),
            },
            mixed(ids),
            given.rounds,
            {
                "litgpt, one by one": 3.0,
                "transformers, padded batches of 8": 1.8,
                "transformers, padded batch of 16": 1.8,
            },
        ),
        "8 equal requests": compare(
            "8 requests of 32 tokens, 16 new each",
            {
                "blixt": ours,
                "litgpt, batched_generate_fn": litgpt_batch(theirs),
                "transformers, one batch": transformers_padded(hf, 8),
            },
            [(ids[64 * i : 64 * i + 32], 16) for i in range(8)],
            given.rounds,
            {},
        ),
        "16 requests that cannot be guessed": compare(
            "16 requests that cannot be guessed, 32 + 32 tokens, drawn at temperature 2",
            {
                "blixt": partial(ours, temperature=2.0),
                "blixt, no guesses": partial(plain, temperature=2.0),
            },
            unguessable(),
            2 * given.rounds,
            {},
        ),
        "one request": compare(
            "1 request of 32 tokens, 32 new",
            {
                "blixt": lone,
                "litgpt": litgpt_one_by_one(theirs),
                "transformers": transformers_padded(hf, 1),
            },
            [(ids[:32], 32)],
            given.rounds,
            {"litgpt": 1.0, "transformers": 1.0},
        ),
    }
    write(given.out, given.rounds, found)


if __name__ == "__main__":
    main()
