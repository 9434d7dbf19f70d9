"""Finetuning with LoRA on examples of unequal length: real tokens a second, with equal losses.

64 examples with lengths as Alpaca has them (median 70 tokens, 40 % prompt) go once through a Llama of 16.9
million parameters, adapters of rank 8 on every linear layer of the blocks, float32, AdamW. litgpt and
transformers with peft pad batches of 8, as their recipes do; blixt packs, and passes only what is learned
through the output layer. "a block for each" is blixt with a padded block of 256 for every example.

    python -m benchmarks.llm.finetune [--rounds 3] [--out FILE]
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.llm._measure import Run, compare, options, show, write
from benchmarks.llm._train_peers import CONFIG, in_blixt, in_transformers, litgpt_config, litgpt_state
from litgpt.lora import GPT as LitLoRA
from litgpt.lora import Config as LitLoRAConfig
from litgpt.lora import mark_only_lora_as_trainable
from peft import LoraConfig, get_peft_model

from blixt.llm.data import Encoded, Loader, pack
from blixt.llm.lora import LoRAConfig, add_lora
from blixt.llm.recipes.training import LossModel

EXAMPLES, BATCH, RANK = 64, 8, 8
Batch = tuple[torch.Tensor, torch.Tensor]


def examples() -> list[Encoded]:
    """Token ids with masks: lengths are log-normal, the first 40 % of each is prompt."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(70), 0.6, EXAMPLES), 12, CONFIG.context).astype(int)
    found: list[Encoded] = []
    for length in lengths:
        ids = random.integers(1, CONFIG.vocab, length).astype(np.int32)
        found.append(Encoded(ids, np.arange(length) >= int(0.4 * length)))
    return found


def padded(documents: list[Encoded]) -> list[Batch]:
    """Batches of 8, padded to the longest; what is not learned has the target -100."""
    batches: list[Batch] = []
    for start in range(0, len(documents), BATCH):
        part = documents[start : start + BATCH]
        width = max(len(document.ids) for document in part) - 1
        tokens = torch.zeros(len(part), width, dtype=torch.long)
        targets = torch.full((len(part), width), -100)
        for row, (ids, mask) in enumerate(part):
            tokens[row, : len(ids) - 1] = torch.from_numpy(ids[:-1].astype(np.int64))
            learned = torch.from_numpy(np.where(mask[1:], ids[1:], -100).astype(np.int64))
            targets[row, : len(ids) - 1] = learned
        batches.append((tokens, targets))
    return batches


def blixt(model: torch.nn.Module, documents: list[Encoded], packed: bool) -> list[Callable[[], torch.Tensor]]:
    """Summed losses of each batch."""
    blocks = pack([(document,) for document in documents], CONFIG.context, shuffle=False, pack=packed)
    rows = BATCH if not packed else 4  # as many tokens a step as the padded batches have, about
    batches = list(Loader(blocks, rows, epochs=1))
    return [lambda batch=batch: model(batch) for batch in batches]


def padded_losses(logits: Any, batches: list[Batch]) -> list[Callable[[], torch.Tensor]]:
    """The same for a model that takes padded tokens."""
    return [
        lambda tokens=tokens, targets=targets: F.cross_entropy(
            logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
        )
        for tokens, targets in batches
    ]


def main() -> None:
    """Measure and write."""
    arguments = options("finetune", 3, __doc__)
    torch.set_num_threads(1)
    documents = examples()
    tokens = sum(len(document.ids) - 1 for document in documents)
    hf = in_transformers()
    ours = LossModel(add_lora(in_blixt(hf), LoRAConfig(r=RANK, alpha=16)))  # type: ignore[arg-type]
    roles = ("query", "key", "value", "projection", "mlp")
    adapters: dict[str, Any] = {f"lora_{role}": True for role in roles}
    config = litgpt_config(LitLoRAConfig, lora_r=RANK, lora_alpha=16, lora_dropout=0.0, **adapters)
    lit = LitLoRA(config).train()
    lit.load_state_dict(litgpt_state(hf, config), strict=False)
    mark_only_lora_as_trainable(lit)
    theirs = get_peft_model(hf, LoraConfig(r=RANK, lora_alpha=16, target_modules="all-linear"))

    batches = padded(documents)
    losses = {
        "litgpt, padded": padded_losses(lit, batches),
        "blixt, packed": blixt(ours, documents, packed=True),
        "blixt, a block for each": blixt(ours, documents, packed=False),
        "transformers + peft, padded": padded_losses(lambda x: theirs(x).logits, batches),
    }
    with torch.no_grad():
        first = {name: sum(float(loss()) for loss in each) for name, each in losses.items()}
    assert max(first.values()) - min(first.values()) < 1e-4 * first["litgpt, padded"], first
    models = {"litgpt, padded": lit, "transformers + peft, padded": theirs}
    runs = {name: epoch(models.get(name, ours), each) for name, each in losses.items()}
    results = compare(runs, arguments.rounds)
    for row in results.values():
        row["real_tokens_per_s"] = tokens / row["median_ms"] * 1e3
    show(f"{EXAMPLES} examples, {tokens} real tokens", results)
    for name, row in results.items():
        print(
            f"  {name:42}{row['real_tokens_per_s']:10.0f} real tokens a CPU second, x{1 / row['ratio']:.2f}"
        )
    write(arguments.out, arguments.rounds, {"finetune": results, "summed loss": first})


def epoch(model: torch.nn.Module, losses: list[Callable[[], torch.Tensor]]) -> Run:
    """All examples once: forward, backward and optimizer for each batch."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def run() -> None:
        for loss in losses:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
