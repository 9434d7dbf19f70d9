"""Batches: read inline, by threads, or by processes that write into shared memory. `Loader` is the door."""

from blixt.data.loader.collate import collate
from blixt.data.loader.loader import Loader, Mode

__all__ = ["Loader", "Mode", "collate"]
