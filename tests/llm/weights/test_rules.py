"""Every operation, every table of rules: what is read can be written back, number for number."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.weights.rules import (
    Add,
    Alias,
    Alternate,
    Chain,
    Pairs,
    Reshape,
    Rule,
    Same,
    Skip,
    Split,
    SplitGroups,
    Stack,
    Transpose,
    apply,
    invert,
)

CONFIG = ModelConfig(vocab=16, d=8, layers=3, heads=2, kv_heads=1, tie=False)
TIED = ModelConfig(vocab=16, d=8, layers=3, heads=2, kv_heads=1, tie=True)
small = st.integers(1, 4)


def numbered(*shape: int) -> torch.Tensor:
    """Every entry another number, so that a wrong place shows."""
    return torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float32).reshape(shape) + 1


@st.composite
def op_and_input(draw):
    """An operation with tensors on disk that fit it."""
    a, b, c, d = (draw(small) for _ in range(4))
    kind = draw(
        st.sampled_from(["same", "split", "groups", "alternate", "transpose", "stack", "pairs", "chain"])
    )
    if kind == "same":
        return Same(), [numbered(a, b)]
    if kind == "split":
        return Split((a, b, c)), [numbered(a + b + c, d)]
    if kind == "groups":
        return SplitGroups(a, (b, c, c)), [numbered(a * (b + 2 * c), d)]
    if kind == "alternate":
        return Alternate(b, dim=draw(st.sampled_from([-1, 1]))), [numbered(a, b * c)]
    if kind == "transpose":
        return Transpose(1, 2), [numbered(a, b, c)]
    if kind == "stack":
        return Stack(), [numbered(b, c) + 100 * i for i in range(a)]
    if kind == "pairs":
        return Pairs(a), [numbered(a * 2 * b, c)]
    return Chain(Transpose(1, 2), Alternate(2, dim=1)), [numbered(a, b, 2 * c)]


@settings(max_examples=200, deadline=None)
@given(op_and_input())
def test_saving_undoes_loading(case) -> None:
    op, theirs = case
    again = op.save(op.load(theirs))
    assert len(again) == len(theirs)
    assert all(torch.equal(x, y) for x, y in zip(again, theirs, strict=True))


def test_a_split_along_rows_and_a_transpose_are_views() -> None:
    fused = numbered(6, 3)
    parts = [*Split((2, 4)).load([fused]), *Transpose().load([fused])]
    assert all(part.untyped_storage().data_ptr() == fused.untyped_storage().data_ptr() for part in parts)


def test_experts_evenly_spaced_in_one_storage_are_stacked_without_a_copy() -> None:
    storage = numbered(4, 3, 2, 5)
    (stacked,) = Stack().load([storage[i, 1] for i in range(4)])
    assert torch.equal(stacked, storage[:, 1])
    assert stacked.untyped_storage().data_ptr() == storage.untyped_storage().data_ptr()
    (copied,) = Stack().load([storage[i, 1] for i in (0, 2, 1, 3)])
    assert torch.equal(copied, storage[[0, 2, 1, 3], 1])


def test_neox_interleaves_q_k_v_by_head() -> None:
    q, k, v = SplitGroups(2, (2, 2, 2)).load([numbered(12, 1)])
    assert q.flatten().tolist() == [1, 2, 7, 8]
    assert k.flatten().tolist() == [3, 4, 9, 10]
    assert v.flatten().tolist() == [5, 6, 11, 12]


def test_neighbouring_rotary_pairs_come_half_a_head_apart() -> None:
    (row,) = Pairs(2).load([numbered(8, 1)])
    assert row.flatten().tolist() == [1, 3, 2, 4, 5, 7, 6, 8]


def test_add_and_reshape_undo_themselves() -> None:
    theirs = [numbered(4)]
    assert torch.equal(Add(-1.0).load(theirs)[0], theirs[0] - 1)
    assert torch.equal(Add(-1.0).save(Add(-1.0).load(theirs))[0], theirs[0])
    reshape = Reshape((2, 3), (6,))
    assert torch.equal(reshape.save(reshape.load([numbered(6)]))[0], numbered(6))


RULES = (
    Rule("embed.weight", "model.embed.weight"),
    Rule("head.weight", "lm_head.weight"),
    Rule(("blocks.{i}.q", "blocks.{i}.k"), "model.{i}.qk", Split((4, 2))),
    Rule("blocks.{i}.experts", "model.{i}.experts.{e}.w", Stack(), layers=(1, 2), experts=3),
    Rule("blocks.{i}.dense", "model.{i}.w", layers=(0,)),
    Alias("transformer.", "model."),
    Alias("", "model."),
    Skip(r".*\.inv_freq"),
)


def on_disk(prefix: str = "model.") -> dict[str, torch.Tensor]:
    tensors = {"embed.weight": numbered(16, 8), "0.w": numbered(2, 2)}
    for layer in range(3):
        tensors[f"{layer}.qk"] = numbered(6, 8) + layer
        if layer:
            tensors |= {f"{layer}.experts.{e}.w": numbered(3, 2) + e for e in range(3)}
    return {prefix + name: tensor for name, tensor in tensors.items()}


def test_a_table_of_rules_reads_and_writes_back_the_same_tensors() -> None:
    theirs = on_disk() | {"lm_head.weight": numbered(16, 8)}
    ours = apply(RULES, theirs, CONFIG)
    assert ours["blocks.2.experts"].shape == (3, 3, 2)
    assert ours["blocks.0.dense"].shape == (2, 2)
    again = invert(RULES, ours, CONFIG)
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("prefix", ["", "transformer.", "model."])
def test_another_beginning_of_the_names_is_understood(prefix: str) -> None:
    ours = apply(RULES, on_disk(prefix), TIED)
    assert invert(RULES, ours, TIED).keys() == on_disk().keys()


def test_buffers_of_old_versions_are_passed_over() -> None:
    apply(RULES, on_disk() | {"model.0.rotary.inv_freq": numbered(4)}, TIED)


def test_a_tied_head_is_not_needed_and_not_surplus() -> None:
    with_head = apply(RULES, on_disk() | {"lm_head.weight": numbered(16, 8)}, TIED)
    assert with_head.keys() == apply(RULES, on_disk(), TIED).keys()
    assert "head.weight" not in with_head


def test_a_tied_matrix_kept_under_the_heads_name_is_the_embedding() -> None:
    theirs = on_disk()
    theirs["lm_head.weight"] = theirs.pop("model.embed.weight")
    assert torch.equal(apply(RULES, theirs, TIED)["embed.weight"], numbered(16, 8))


def test_missing_surplus_and_misshapen_tensors_are_named() -> None:
    theirs = on_disk()
    with pytest.raises(WeightsError, match=r"lacks the tensor lm_head\.weight of this config"):
        apply(RULES, theirs, CONFIG)
    with pytest.raises(WeightsError, match=r"holds the tensor model\.3\.qk and 1 more"):
        apply(RULES, theirs | {"model.3.qk": numbered(6, 8), "model.4.qk": numbered(6, 8)}, TIED)
    with pytest.raises(
        WeightsError, match=r"model\.1\.qk of shape \(7, 8\) cannot become blocks\.1\.q by Split"
    ):
        apply(RULES, theirs | {"model.1.qk": numbered(7, 8)}, TIED)
