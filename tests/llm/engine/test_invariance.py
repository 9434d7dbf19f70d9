"""The same tokens whatever the batch, the chunks, the order of arrival and the prefix cache; and the bits."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling
from blixt.llm.specs import LayerSpec, MLASpec, MoESpec, RopeSpec

ROPE = RopeSpec()
LATENT = MLASpec(kv_rank=24, rope_dim=8, nope_dim=16, v_dim=20)
SHAPES: dict[str, dict[str, Any]] = {
    "full": {},
    "sliding": {"layer_specs": (LayerSpec(attn="sliding", window=16, rope=ROPE), LayerSpec(rope=ROPE)) * 2},
    "only sliding": {"layer_specs": (LayerSpec(attn="sliding", window=16, rope=ROPE),) * 4},
    "chunked": {"layer_specs": (LayerSpec(attn="chunked", window=16, rope=ROPE), LayerSpec()) * 2},
    "soft caps": {"softcap_attn": 20.0, "softcap_logits": 30.0},
    "sinks": {"sinks": True},
    "latent": {"mla": LATENT, "kv_heads": 4, "layer_specs": (LayerSpec(attn="mla", rope=ROPE),) * 4},
    "experts": {
        "moe": MoESpec(experts=4, top_k=2, d_ff=48),
        "layer_specs": (LayerSpec(rope=ROPE, mlp="moe"),) * 4,
    },
}
SETTINGS = [
    EngineConfig(),
    EngineConfig(max_batch=1),
    EngineConfig(max_batch=3, max_tokens_per_step=7),
    EngineConfig(max_batch=8, max_tokens_per_step=16, block_size=8),
    EngineConfig(prefix_cache=False, block_size=4),
    EngineConfig(blocks=18, block_size=8),
    EngineConfig(batch_invariant=True),
]


def decisive(**changes: Any) -> GPT:
    """A small random model whose likeliest token is likeliest by far."""
    torch.manual_seed(0)
    config = {"vocab": 300, "d": 64, "layers": 4, "heads": 4, "kv_heads": 2, "context": 256, "tie": False}
    model = GPT(ModelConfig(**{**config, **changes})).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
        elif "sinks" in name:
            parameter.normal_()
    return model


def prompts_of(seed: int) -> list[list[int]]:
    """Prompts shorter and longer than windows and blocks, some with a common beginning."""
    draw = random.Random(seed)
    stem = [draw.randrange(300) for _ in range(70)]
    alone = [[draw.randrange(300) for _ in range(length)] for length in (1, 17, 33, 90)]
    return alone + [stem + [draw.randrange(300) for _ in range(9)] for _ in range(3)]


def generate(engine: Engine, prompts: Sequence[Sequence[int]], count: int, late: int = 0) -> list[list[int]]:
    """Greedy tokens for each prompt; `late` of them arrive while others run."""
    found: dict[str, list[int]] = {str(n): [] for n in range(len(prompts))}
    coming = list(enumerate(prompts))
    while coming or engine.has_work:
        while len(coming) > late:
            number, prompt = coming.pop(0)
            engine.add(prompt, Sampling(temperature=0, max_tokens=count), uid=str(number))
        late = max(0, late - 1)
        for update in engine.step():
            assert not update.error, update.error
            found[update.uid] += update.tokens
    assert engine.stats().blocks_used == 0
    return [found[str(n)] for n in range(len(prompts))]


def without_cache(model: GPT, prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_do_not_depend_on_batch_chunk_order_or_cache(shape: str) -> None:
    model = decisive(**SHAPES[shape])
    prompts = prompts_of(len(shape))
    expected = [without_cache(model, prompt, 8) for prompt in prompts]
    for config in SETTINGS:
        assert generate(Engine(model, None, config), prompts, 8, late=4) == expected, config
        assert generate(Engine(model, None, config), prompts[::-1], 8) == expected[::-1], config


def rows_are_alike() -> bool:
    """Whether this machine's matrix product gives a row the same bits among two rows and among many."""
    x, weight = torch.randn(64, 64), torch.randn(64, 176).t()
    return torch.equal(F.linear(x[:2], weight), F.linear(x, weight)[:2]) and torch.equal(
        F.linear(x[:16], weight.contiguous()), F.linear(x, weight.contiguous())[:16]
    )


class Watched(Engine):
    """Keeps every request's logits, in the order of its tokens."""

    def watch(self) -> dict[str, list[Tensor]]:
        seen: dict[str, list[Tensor]] = {}
        run = self.runner.run

        def watching(plan: Any) -> Tensor:
            logits = run(plan)
            for part, row in zip([p for p in plan if p.samples], logits, strict=True):
                seen.setdefault(part.request.uid, []).append(row.clone())
            return logits

        self.runner.run = watching  # type: ignore[method-assign]
        return seen


@pytest.mark.skipif(not rows_are_alike(), reason="this machine's BLAS rounds a row by its neighbours")
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_invariant_means_the_same_bits_in_any_company(shape: str) -> None:
    model = decisive(**SHAPES[shape])
    prompts = prompts_of(3)
    config = EngineConfig(batch_invariant=True, max_tokens_per_step=4096)
    alone = Watched(model, None, replace(config, max_batch=1))
    expected = alone.watch()
    generate(alone, prompts, 8)
    for batch, late in ((3, 0), (16, 5)):
        crowd = Watched(model, None, replace(config, max_batch=batch))
        seen = crowd.watch()
        generate(crowd, prompts, 8, late=late)
        for uid, rows in expected.items():
            assert all(torch.equal(a, b) for a, b in zip(rows, seen[uid], strict=True)), (batch, late, uid)


def test_weights_laid_out_anew_are_the_same_and_can_be_trained() -> None:
    model = decisive()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    generate(Engine(model), prompts_of(0), 12)
    weight = model.get_submodule("blocks.0.mlp.up").weight
    assert weight.stride() == (1, weight.shape[0])
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    model.requires_grad_(True).loss(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])).backward()
    assert weight.grad is not None


def test_weights_that_are_being_trained_keep_their_layout() -> None:
    model = decisive().requires_grad_(True)
    generate(Engine(model), prompts_of(0), 12)
    assert model.get_submodule("blocks.0.mlp.up").weight.is_contiguous()
