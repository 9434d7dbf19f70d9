"""LitData's item loaders, of which only what they ask for is kept."""

from typing import Any


class BaseItemLoader:
    """The base of what says how items lie in a dataset. Loaders of your own have no counterpart here."""


class PyTreeLoader(BaseItemLoader):
    """Samples: the default."""

    def __init__(self, batch_decode: Any = "auto") -> None:
        del batch_decode  # how many rows LitData decodes together; here a batch is


class TokensLoader(BaseItemLoader):
    """Tokens: documents are written, and blocks of `block_size` are read."""

    def __init__(self, block_size: int | None = None) -> None:
        self.block_size = block_size

    def state_dict(self) -> dict[str, int | None]:
        """Return the block size."""
        return {"block_size": self.block_size}


class ParquetLoader(BaseItemLoader):
    """Rows of Parquet files.

    Args:
        pre_load_chunk: no meaning here: a row group is read whole.
        low_memory: likewise.
        columns: the columns to read; all when None.
    """

    def __init__(
        self, pre_load_chunk: bool = False, low_memory: bool = True, columns: list[str] | None = None
    ) -> None:
        del pre_load_chunk, low_memory
        self.columns = columns
