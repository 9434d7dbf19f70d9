import math

import pytest
import torch

from blixt.llm.cache import KVCache
from blixt.llm.config import ModelConfig, RopeSpec
from blixt.llm.errors import PromptError
from blixt.llm.model import GPT
from blixt.llm.rope import Rope, rotate


def test_fresh_model_knows_nothing_so_its_loss_is_log_of_the_vocabulary() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab=1000, d=64, layers=2, heads=4, kv_heads=2))
    tokens = torch.randint(0, 1000, (4, 33))
    assert model.loss(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(math.log(1000), rel=0.02)


def test_a_later_token_never_changes_an_earlier_logit(model: GPT) -> None:
    tokens = torch.randint(0, 500, (1, 20))
    changed = tokens.clone()
    changed[0, 12] = (changed[0, 12] + 1) % 500
    before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :12], after[0, :12])
    assert not torch.allclose(before[0, 12:], after[0, 12:])


@pytest.mark.parametrize("pieces", [[20], [1] * 20, [7, 1, 12], [19, 1], [5, 5, 5, 5]])
def test_cached_forward_in_any_pieces_equals_the_whole(model: GPT, pieces: list[int]) -> None:
    tokens = torch.randint(0, 500, (3, 20))
    cache = KVCache(model.config, batch=3, like=model.embed.weight)
    parts = [model(part, cache) for part in tokens.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-4, atol=1e-4)


def test_rope_turns_each_pair_by_position_times_frequency() -> None:
    cos, sin = Rope(RopeSpec(dim=8), 8)(torch.tensor([0, 3, 15]), 16)
    x = torch.randn(8)
    turned = rotate(x.expand(3, 1, 8), cos, sin)[:, 0]
    for row, position in enumerate((0, 3, 15)):
        for pair in range(4):
            z = complex(x[pair], x[pair + 4])
            angle = position * 10_000.0 ** (-2 * pair / 8)
            expected = z * complex(math.cos(angle), math.sin(angle))
            assert complex(turned[row, pair], turned[row, pair + 4]) == pytest.approx(expected, abs=1e-5)


def test_more_tokens_than_the_context_are_refused_with_both_numbers(model: GPT) -> None:
    with pytest.raises(PromptError, match="65 tokens do not fit the model's context of 64"):
        model(torch.zeros(1, 65, dtype=torch.long))


@pytest.mark.parametrize("shape", [(1, 0), (0,), (0, 3)])
def test_no_tokens_are_refused(model: GPT, shape: tuple[int, ...]) -> None:
    with pytest.raises(PromptError, match="there are no tokens"):
        model(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("tie", [True, False])
def test_config_counts_the_parameters_the_model_has(tie: bool) -> None:
    config = ModelConfig(vocab=300, d=48, layers=3, heads=6, kv_heads=2, tie=tie)
    assert config.parameters() == sum(p.numel() for p in GPT(config).parameters())
