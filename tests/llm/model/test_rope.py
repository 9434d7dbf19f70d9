"""Frequencies of every kind against transformers', and how heads are turned."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from blixt.llm.config import LayerSpec, ModelConfig, RopeSpec
from blixt.llm.errors import ConfigError
from blixt.llm.rope import Rope, attention_factor, rotate

WIDTH, ORIGINAL, CONTEXT = 16, 128, 512
FACTORS = tuple(1 + 0.5 * pair for pair in range(WIDTH // 2))
LONG = {"factor": 4.0, "original_max_position_embeddings": ORIGINAL}
CASES: dict[str, tuple[RopeSpec, dict[str, Any]]] = {
    "linear": (RopeSpec(kind="linear", factor=4.0), {"factor": 4.0}),
    "llama3": (
        RopeSpec(
            kind="llama3", factor=4.0, original_context=ORIGINAL, low_freq_factor=1.0, high_freq_factor=4.0
        ),
        {**LONG, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "yarn": (RopeSpec(kind="yarn", factor=4.0, original_context=ORIGINAL), LONG),
    "yarn, not truncated": (
        RopeSpec(kind="yarn", factor=4.0, original_context=ORIGINAL, truncate=False, beta_fast=16.0),
        {**LONG, "truncate": False, "beta_fast": 16.0},
    ),
    "yarn, mscale": (
        RopeSpec(kind="yarn", factor=4.0, original_context=ORIGINAL, mscale=0.7, mscale_all_dim=0.9),
        {**LONG, "mscale": 0.7, "mscale_all_dim": 0.9},
    ),
    "yarn, its own attention factor": (
        RopeSpec(kind="yarn", factor=4.0, original_context=ORIGINAL, attention_factor=1.3),
        {**LONG, "attention_factor": 1.3},
    ),
    "longrope": (
        RopeSpec(
            kind="longrope",
            factor=CONTEXT / ORIGINAL,
            original_context=ORIGINAL,
            short_factors=FACTORS,
            long_factors=FACTORS[::-1],
        ),
        {
            "original_max_position_embeddings": ORIGINAL,
            "short_factor": list(FACTORS),
            "long_factor": list(FACTORS[::-1]),
        },
    ),
    "proportional": (
        RopeSpec(kind="proportional", dim=8, factor=2.0),
        {"partial_rotary_factor": 0.5, "factor": 2.0},
    ),
}


def theirs(kind: str, values: dict[str, Any], length: int | None = None) -> tuple[torch.Tensor, float]:
    config: Any = SimpleNamespace(
        rope_parameters={"rope_type": kind, "rope_theta": 10_000.0, **values},
        head_dim=WIDTH,
        hidden_size=4 * WIDTH,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        standardize_rope_params=lambda: None,
    )
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)


def ours(spec: RopeSpec) -> Rope:
    """As the model makes it: the configuration sets a `dim` left open."""
    config = ModelConfig(vocab=2, d=64, heads=4, kv_heads=4, layers=1, layer_specs=(LayerSpec(rope=spec),))
    resolved = config.specs[0].rope
    assert resolved is not None
    return Rope(resolved, WIDTH)


@pytest.mark.parametrize("name", CASES)
def test_frequencies_and_attention_factor_are_those_of_transformers(name: str) -> None:
    spec, values = CASES[name]
    wanted, factor = theirs(spec.kind, values)
    torch.testing.assert_close(ours(spec).frequencies(torch.device("cpu"), 1), wanted, rtol=1e-6, atol=0)
    assert attention_factor(spec) == pytest.approx(factor)


@pytest.mark.parametrize("length", [ORIGINAL, ORIGINAL + 1])
def test_longrope_changes_its_factors_above_the_original_context(length: int) -> None:
    spec, values = CASES["longrope"]
    wanted, _ = theirs("longrope", values, length)
    torch.testing.assert_close(ours(spec).frequencies(torch.device("cpu"), length), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT])
def test_dynamic_raises_its_base_with_the_length(length: int) -> None:
    spec = RopeSpec(kind="dynamic", factor=2.0, original_context=CONTEXT)
    wanted, _ = theirs("dynamic", {"factor": 2.0}, length)
    got = ours(spec).frequencies(torch.device("cpu"), length)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_each_token_follows_its_own_sequences_length(kind: str) -> None:
    spec = (
        CASES["longrope"][0]
        if kind == "longrope"
        else RopeSpec(kind="dynamic", factor=2.0, original_context=9)
    )
    rope, lengths = ours(spec), torch.tensor([[7], [200]])
    cos, sin = rope(torch.arange(5).expand(2, 5), lengths)
    for row, length in enumerate((7, 200)):
        alone = rope(torch.arange(5), length)
        torch.testing.assert_close((cos[row], sin[row]), alone)


def test_a_band_of_no_width_divides_slow_pairs_and_leaves_fast_ones() -> None:
    """Llama 4 Scout publishes both bounds as 1."""
    spec = RopeSpec(
        kind="llama3", factor=16.0, original_context=64, low_freq_factor=1.0, high_freq_factor=1.0
    )
    plain = ours(RopeSpec()).frequencies(torch.device("cpu"))
    slow = 64 * plain / (2 * math.pi) < 1
    wanted = torch.where(slow, plain / 16, plain)
    torch.testing.assert_close(ours(spec).frequencies(torch.device("cpu")), wanted)
    assert 0 < slow.sum() < len(slow)


def test_neighbours_or_halves_are_turned_by_the_same_angles() -> None:
    cos, sin = ours(RopeSpec())(torch.tensor([5]), 6)
    x = torch.randn(1, 2, WIDTH)
    apart = torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)
    halves = rotate(apart, cos, sin)
    pairs = rotate(x, cos, sin, interleaved=True)
    torch.testing.assert_close(torch.cat((pairs[..., 0::2], pairs[..., 1::2]), dim=-1), halves)


def test_what_is_not_turned_stays_as_it_was() -> None:
    cos, sin = ours(RopeSpec(dim=6))(torch.tensor([5]), 6)
    x = torch.randn(1, 2, WIDTH)
    assert torch.equal(rotate(x, cos, sin)[..., 6:], x[..., 6:])


def test_reversed_is_the_turn_back() -> None:
    x = torch.randn(3, 2, WIDTH)
    there = rotate(x, *ours(RopeSpec())(torch.arange(3), 3))
    torch.testing.assert_close(rotate(there, *ours(RopeSpec(reverse=True))(torch.arange(3), 3)), x)


def test_the_score_of_two_tokens_depends_on_their_distance_only() -> None:
    rope, q, k = ours(RopeSpec()), torch.randn(1, 1, WIDTH), torch.randn(1, 1, WIDTH)

    def score(a: int, b: int) -> float:
        return float((rotate(q, *rope(torch.tensor([a]), 1)) * rotate(k, *rope(torch.tensor([b]), 1))).sum())

    assert score(7, 3) == pytest.approx(score(107, 103), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(8, 3), abs=1e-4)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "spiral"}, "spiral"),
        ({"dim": 3}, "dim=3"),
        ({"factor": 0.5, "kind": "linear"}, "factor=0.5"),
        ({"kind": "yarn"}, "original_context"),
        ({"kind": "longrope", "original_context": 4}, "short_factors"),
        ({"kind": "llama3", "original_context": 4, "low_freq_factor": 5.0}, "low_freq_factor=5.0"),
        ({"base": 0.0}, "base=0.0"),
    ],
)
def test_an_impossible_rotation_names_its_field(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RopeSpec(**values)
