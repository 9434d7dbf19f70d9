"""WikiText-2 as blocks of word numbers."""

from pathlib import Path
from typing import ClassVar
from urllib.request import urlopen

import torch
from torch import Tensor
from torch.utils.data import Dataset

from blixt.fabric import FabricError

_END_OF_LINE = "<eos>"


class Dictionary:
    """Words and their numbers, in the order in which they came."""

    def __init__(self) -> None:
        self.word2idx: dict[str, int] = {}
        self.idx2word: list[str] = []

    def add_word(self, word: str) -> int:
        """The word's number, a new one for a new word."""
        number = self.word2idx.setdefault(word, len(self.idx2word))
        if number == len(self.idx2word):
            self.idx2word.append(word)
        return number

    def __len__(self) -> int:
        return len(self.idx2word)


def tokenize(path: Path) -> tuple[Tensor, Dictionary]:
    """The words of a text file as numbers, each line closed by `<eos>`, and what the numbers mean.

    Raises:
        FileNotFoundError: When there is no such file.
    """
    dictionary = Dictionary()
    with path.open(encoding="utf8") as lines:
        numbers = [dictionary.add_word(word) for line in lines for word in [*line.split(), _END_OF_LINE]]
    return torch.tensor(numbers, dtype=torch.int64), dictionary


class WikiText2(Dataset[tuple[Tensor, Tensor]]):
    """Blocks of WikiText-2's training text; the target is the block one word further.

    Args:
        data_dir: The folder with `wikitext-2.txt`; a text of your own under that name serves as well.
        block_size: Words a sample.
        download: Fetch the file when it is not there.
    """

    URL: ClassVar[str] = (
        "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/train.txt"
    )

    def __init__(self, data_dir: Path = Path("./data"), block_size: int = 35, download: bool = True) -> None:
        self.path = Path(data_dir) / "wikitext-2.txt"
        self.block_size = block_size
        if download:
            self.download(self.path)
        self.data, self.dictionary = tokenize(self.path)

    @property
    def vocab_size(self) -> int:
        """How many different words there are."""
        return len(self.dictionary)

    def __len__(self) -> int:
        return len(self.data) // self.block_size - 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.block_size
        words = self.data[start : start + self.block_size + 1]
        return words[:-1], words[1:]

    @classmethod
    def download(cls, destination: Path) -> None:
        """Fetch the text, unless it is there.

        Raises:
            FabricError: When it cannot be fetched.
        """
        if destination.exists():
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urlopen(cls.URL, timeout=60) as answer:
                text: bytes = answer.read()
        except OSError as error:
            message = f"{cls.URL} cannot be fetched: {error}. Put any text at {destination} instead."
            raise FabricError(message) from error
        part = destination.with_suffix(".part")
        part.write_bytes(text)
        part.replace(destination)
