"""What the parity tests ask of a case: the same numbers as transformers, in every way of computing them."""

import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from blixt.llm import GPT, load_checkpoint, save_checkpoint
from blixt.llm.attention import Cached
from blixt.llm.cache import KVCache
from blixt.llm.moe import Experts

TOLERANCE = 1e-5  # of the largest absolute logit


@lru_cache(maxsize=4)
def loaded(folder: Path) -> GPT:
    """blixt's model of one case."""
    error = folder / "error.txt"
    assert not error.exists(), error.read_text()
    return load_checkpoint(folder / "model")


@lru_cache(maxsize=4)
def reference(folder: Path) -> dict[str, Tensor]:
    """What transformers computed for one case."""
    return load_file(folder / "reference.safetensors")


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, in units of the largest absolute value of `theirs`."""
    return ((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max()).item()


@torch.no_grad()
def assert_same_logits(folder: Path) -> None:
    """Shorter and longer than any window, and a batch."""
    model, known = loaded(folder), reference(folder)
    for name in ("short", "long", "batch"):
        assert gap(model(known[name]), known[f"{name}.logits"]) < TOLERANCE, name


@torch.no_grad()
def greedy(model: GPT, prompt: Tensor, new: int, chunk: int) -> Tensor:
    """The likeliest continuation through a cache, the prompt read in chunks.

    A model whose rotation depends on the sequence's length is read afresh where the cache says it must be.
    """
    bounds = {
        spec.rope.original_context
        for spec in model.config.specs
        if spec.rope and spec.rope.kind in ("longrope", "dynamic")
    }
    dynamic = any(spec.rope and spec.rope.kind == "dynamic" for spec in model.config.specs)
    tokens, cache, scores = prompt, KVCache(model.config, len(prompt), model.embed.weight), torch.empty(0)
    for part in prompt.split(chunk, dim=1):
        scores = model(part, cache)
    for _ in range(new):
        tokens = torch.cat((tokens, scores[:, -1:].argmax(-1)), dim=1)
        length = tokens.shape[1]
        if any(length == bound + 1 or (dynamic and length > bound) for bound in bounds):
            cache = KVCache(model.config, len(prompt), model.embed.weight)
            scores = model(tokens, cache)
        else:
            scores = model(tokens[:, -1:], cache)
    return tokens[:, prompt.shape[1] :]


def assert_same_greedy_tokens(folder: Path) -> None:
    """Through the cache, over the edge of a window and of an original context, whatever the chunks."""
    model, known = loaded(folder), reference(folder)
    for chunk in (16, 4):
        found = greedy(model, known["greedy.prompt"], known["greedy"].shape[1], chunk)
        assert found.tolist() == known["greedy"].tolist(), f"chunks of {chunk}"


@torch.no_grad()
def assert_causal(folder: Path) -> None:
    """Another last token leaves the logits before it as they were, cached and not."""
    model, known = loaded(folder), reference(folder)
    experts = [module for module in model.modules() if isinstance(module, Experts)]
    for module in experts:  # grouped, a product of one row more can round otherwise
        module.row_by_row = True
    tokens = known["long"]
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.config.vocab
    before, after = model(tokens), model(changed)
    assert gap(before[:, :-1], after[:, :-1]) == 0
    assert gap(before[:, -1], after[:, -1]) > 1e-3
    cached = [model(ids, KVCache(model.config, 1, before)) for ids in (tokens, changed)]
    assert gap(cached[0][:, :-1], cached[1][:, :-1]) == 0
    for module in experts:
        module.row_by_row = False


@torch.no_grad()
def assert_cache_of_uneven_rows(folder: Path) -> None:
    """Rows of different lengths in one cache give what each gives alone."""
    model, known = loaded(folder), reference(folder)
    tokens, counts = known["batch"], [13, 9, 5]
    cache = KVCache(model.config, 3, model.embed.weight)
    model(tokens, Cached(cache, tokens, counts))
    step = model(tokens[:, :1], cache)
    for row, count in enumerate(counts):
        alone = model(torch.cat((tokens[row, :count], tokens[row, :1]))[None])
        assert gap(step[row, -1], alone[0, -1]) < TOLERANCE, row


def assert_saved_back(folder: Path) -> None:
    """transformers finds every tensor in what blixt saved, computes the same, and saves the same again."""
    error = folder / "error.txt"
    assert not error.exists(), error.read_text()
    assert json.loads((folder / "report.json").read_text()) == {}
    known, ours = reference(folder), load_file(folder / "ours.safetensors")
    for name in ("short", "long", "batch"):
        assert gap(ours[f"{name}.logits"], known[f"{name}.logits"]) < TOLERANCE, name
    first, saved = text_part(folder / "model"), tensors(folder / "ours")
    assert {n: (t.shape, t.dtype) for n, t in saved.items()} == {
        n: (t.shape, t.dtype) for n, t in first.items()
    }
    assert all(torch.equal(tensor, first[name]) for name, tensor in saved.items())
    assert tensors(folder / "again").keys() == saved.keys()


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    return load_file(folder / "model.safetensors")


def text_part(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint; of a multi-modal one its text model's, without the prefix."""
    found = tensors(folder)
    inside = "language_model."
    if not any(name.startswith(inside) for name in found):
        return found
    return {name.removeprefix(inside): tensor for name, tensor in found.items() if name.startswith(inside)}


def assert_same_gradients(folder: Path, scratch: Path) -> None:
    """One backward pass: every tensor's gradient, compared under the names on disk."""
    model, known = load_checkpoint(folder / "model", copy=True).requires_grad_(), reference(folder)
    tokens = known["batch"]
    loss = torch.nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert gap(loss.detach(), known["loss"]) < TOLERANCE
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    save_checkpoint(model, scratch)
    theirs, ours = text_part(folder / "gradients"), tensors(scratch)
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for name, gradient in theirs.items():
        if name.endswith("e_score_correction_bias"):
            continue  # it chooses experts and has no gradient; transformers keeps it as a buffer
        assert (ours[name] - gradient).abs().max().item() < TOLERANCE * largest, name
