import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.llm.data.documents import PLACES, document, neighbours, targets_of, units

from blixt.llm.data import PackedBlock, pack
from blixt.llm.errors import LLMError

LENGTHS = st.lists(st.integers(2, 30), min_size=1, max_size=40)


def blocks_of(packed: object, epoch: int = 0) -> list[PackedBlock]:
    return [packed.block(epoch, i) for i in range(packed.count(epoch))]  # type: ignore[attr-defined]


@given(LENGTHS, st.integers(0, 3), st.booleans(), st.booleans())
def test_no_token_is_lost_or_doubled(lengths: list[int], epoch: int, shuffle: bool, packs: bool) -> None:
    packed = pack(units(lengths), 32, shuffle=shuffle, pack=packs)
    taught = targets_of(blocks_of(packed, epoch))
    assert taught == [i * PLACES + j for i, length in enumerate(lengths) for j in range(1, length)]


@given(LENGTHS, st.integers(0, 3))
def test_documents_are_never_mixed(lengths: list[int], epoch: int) -> None:
    for block in blocks_of(pack(units(lengths), 32), epoch):
        for tokens, targets, positions in neighbours(block):
            first = tokens[0]
            assert first % PLACES == 0
            assert torch.equal(tokens, first + torch.arange(len(tokens)))
            assert torch.equal(targets, tokens + 1)
            assert torch.equal(positions, torch.arange(len(tokens)))
        padding = block.documents < 0
        assert not block.mask[padding].any()
        assert (block.targets[padding] == -100).all()


@given(LENGTHS, st.integers(0, 5))
def test_an_epoch_is_the_same_whoever_packs_it(lengths: list[int], epoch: int) -> None:
    one, two = pack(units(lengths), 32, seed=3), pack(units(lengths), 32, seed=3)
    assert one.identity() == two.identity()
    for a, b in zip(blocks_of(one, epoch), blocks_of(two, epoch), strict=True):
        assert torch.equal(a.tokens, b.tokens)


def test_epochs_and_seeds_differ_in_their_order() -> None:
    lengths = [5 + i % 7 for i in range(200)]
    packed = pack(units(lengths), 32)
    first, second = (torch.stack([b.tokens for b in blocks_of(packed, e)[:20]]) for e in (0, 1))
    assert not torch.equal(first, second)
    other = pack(units(lengths), 32, seed=1)
    assert other.identity() != packed.identity()
    assert not torch.equal(other.block(0, 0).tokens, packed.block(0, 0).tokens)


def test_without_shuffle_blocks_follow_the_documents() -> None:
    packed = pack(units([9] * 8), 16, shuffle=False)
    assert [int(b.tokens[0]) // PLACES for b in blocks_of(packed)] == [0, 2, 4, 6]


def test_packing_fills_blocks_that_padding_leaves_empty() -> None:
    lengths = [3 + (i * 13) % 60 for i in range(300)]
    assert pack(units(lengths), 256).fill > 0.97
    assert pack(units(lengths), 256, pack=False).fill < 0.15


def test_documents_of_a_unit_share_a_block_and_are_numbered_by_their_place_in_it() -> None:
    pairs = [(document(2 * i, 4 + i), document(2 * i + 1, 6)) for i in range(9)]
    for block in blocks_of(pack(pairs, 32)):
        for number in range(0, int(block.documents.max()) + 1, 2):
            left, right = (block.tokens[block.documents == n][0] // PLACES for n in (number, number + 1))
            assert left + 1 == right


def test_what_is_not_to_be_learned_is_masked_and_still_read() -> None:
    quiet = document(1, 5)._replace(mask=torch.tensor([0, 0, 1, 1, 0]).bool().numpy())
    block = pack([(quiet,)], 8).block(0, 0)
    assert block.mask.tolist() == [False, True, True, False] + [False] * 4
    assert block.tokens[:4].tolist() == [1000, 1001, 1002, 1003]


def test_a_document_longer_than_a_block_is_named_and_nothing_to_pack_is_told() -> None:
    with pytest.raises(LLMError, match="example 1 takes 33 places and a block has 32"):
        pack(units([3, 34]), 32)
    with pytest.raises(LLMError, match="nothing to pack"):
        pack([], 32)
