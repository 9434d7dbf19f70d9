"""One training step, blixt against litgpt and transformers, interleaved, with equal losses.

A Llama of 16.9 million parameters in float32, batch 8 of 256 tokens, all of them learned, AdamW. Everybody
multiplies the same matrices, so a tie is what there is to expect; ours keeps less of the logits in memory.

    python -m benchmarks.llm.train_step [--rounds 5] [--out FILE]
"""

from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.llm._measure import Run, compare, options, show, write
from benchmarks.llm._train_peers import CONFIG, in_blixt, in_transformers, litgpt_config, litgpt_state
from litgpt.model import GPT as LitGPT

from blixt.llm.losses import token_loss

BATCH = 8


def main() -> None:
    """Measure and write."""
    arguments = options("train-step", 5, __doc__)
    torch.set_num_threads(1)
    hf = in_transformers()
    ours, config = in_blixt(hf), litgpt_config()
    lit = LitGPT(config).train()
    lit.load_state_dict(litgpt_state(hf, config))
    rows = torch.randint(0, CONFIG.vocab, (BATCH, 257), generator=torch.Generator().manual_seed(1))
    tokens, targets = rows[:, :-1], rows[:, 1:]

    losses: dict[str, Any] = {
        "blixt": lambda: token_loss(ours, ours.hidden(tokens), targets),
        "litgpt": lambda: F.cross_entropy(lit(tokens).flatten(0, 1), targets.flatten()),
        "transformers": lambda: F.cross_entropy(hf(tokens).logits.flatten(0, 1), targets.flatten()),
    }
    first = {name: float(loss()) for name, loss in losses.items()}
    assert max(first.values()) - min(first.values()) < 1e-4 * first["blixt"], first
    models = {"blixt": ours, "litgpt": lit, "transformers": hf}
    runs = {name: step(models[name], losses[name]) for name in losses}
    results = compare(runs, arguments.rounds)
    show(f"training step, {BATCH} x 256 tokens", results)
    write(arguments.out, arguments.rounds, {"training step": results, "first loss": first})


def step(model: torch.nn.Module, loss: Any) -> Run:
    """Forward, backward and optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
