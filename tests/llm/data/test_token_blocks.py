from pathlib import Path

import numpy as np
import pytest
import torch
from tests.llm.data.documents import PLACES, neighbours, targets_of

from blixt.data import Tokens, optimize
from blixt.llm.data import Loader, TokenBlocks
from blixt.llm.errors import CorpusError

LENGTHS = [40, 7, 90, 3, 21, 64, 12]


def write(number: int) -> Tokens:
    return Tokens(number * PLACES + np.arange(LENGTHS[number]), dtype="uint16")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "train"
    optimize(write, range(len(LENGTHS)), folder, num_workers=0)
    return folder


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_token_but_a_documents_first_is_a_target_once(shards: Path, shuffle: bool) -> None:
    blocks = TokenBlocks(shards, 16, shuffle=shuffle)
    taught = targets_of([blocks.block(1, i) for i in range(blocks.count(1))])
    assert taught == [n * PLACES + i for n, length in enumerate(LENGTHS) for i in range(1, length)]


def test_documents_are_told_apart_and_positions_begin_anew(shards: Path) -> None:
    blocks = TokenBlocks(shards, 32)
    for i in range(blocks.count(0)):
        for tokens, _, positions in neighbours(blocks.block(0, i)):
            assert torch.equal(tokens, tokens[0] + torch.arange(len(tokens)))
            assert torch.equal(positions, torch.arange(len(tokens)))


def test_whole_documents_are_packed_when_asked(shards: Path) -> None:
    blocks = TokenBlocks(shards, 96, documents="pack", shuffle=False)
    taught = targets_of([blocks.block(0, i) for i in range(blocks.count(0))])
    assert taught == [n * PLACES + i for n, length in enumerate(LENGTHS) for i in range(1, length)]


def test_joined_documents_teach_every_token_but_the_first(shards: Path) -> None:
    blocks = TokenBlocks(shards, 16, documents="join", shuffle=False)
    taught = targets_of([blocks.block(0, i) for i in range(blocks.count(0))])
    assert len(taught) == sum(LENGTHS) - 1


def test_a_run_resumes_in_the_middle_of_an_epoch(shards: Path) -> None:
    whole = [batch.tokens for batch in Loader(TokenBlocks(shards, 16), 2, epochs=2)]
    first = Loader(TokenBlocks(shards, 16), 2, epochs=2)
    for _ in zip(range(5), first, strict=False):
        pass
    second = Loader(TokenBlocks(shards, 16), 2, epochs=2)
    second.load_state_dict(first.state_dict())
    rest = [batch.tokens for batch in second]
    assert len(rest) == len(whole) - 5
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[-len(rest) :], strict=True))


def test_too_little_text_and_no_dataset_are_told(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="too few for one block"):
        TokenBlocks(shards, 5000)
    with pytest.raises(CorpusError, match=str(tmp_path)):
        TokenBlocks(tmp_path, 16)
