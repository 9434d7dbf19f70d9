"""Inputs that name files of a store, fetched ahead: the function gets local copies, removed after use."""

import shutil
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from blixt.data.build.settings import Transfer
from blixt.data.store import Store, open_store

_PART_BYTES = 16 << 20


def arrivals(items: Iterator[Any], transfer: Transfer, folder: Path) -> Generator[Any]:
    """Yield the items; strings below `transfer.input_dir` are local copies, gone at the next item.

    Twice as many items are ahead as there are downloaders. Files of a local `input_dir` are used in place.
    """
    if transfer.input_dir is None:
        yield from items
        return
    store = open_store(transfer.input_dir, **transfer.input_options)
    if store.local is not None:
        yield from items
        return
    fetcher = _Fetcher(store, (transfer.input_dir, store.location), folder)
    ahead: deque[Future[tuple[Any, Path]]] = deque()
    with ThreadPoolExecutor(transfer.downloaders, "blixt-download") as threads:
        try:
            for number, item in enumerate(items):
                ahead.append(threads.submit(fetcher.fetch, item, number))
                if len(ahead) >= 2 * transfer.downloaders:
                    yield from _use(ahead.popleft())
            while ahead:
                yield from _use(ahead.popleft())
        finally:
            for waiting in ahead:
                waiting.cancel()


def _use(arriving: "Future[tuple[Any, Path]]") -> Iterator[Any]:
    item, folder = arriving.result()
    try:
        yield item
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Fetcher:
    """Replaces each address below a store's location, by whichever name, by a local copy of its file."""

    def __init__(self, store: Store, names: tuple[str, ...], folder: Path) -> None:
        self._store = store
        self._prefixes = tuple(name.rstrip("/") + "/" for name in names)
        self._folder = folder

    def fetch(self, item: Any, number: int) -> tuple[Any, Path]:
        folder = self._folder / str(number)
        return self._replace(item, folder), folder

    def _replace(self, node: Any, folder: Path) -> Any:
        if isinstance(node, str):
            prefix = next((one for one in self._prefixes if node.startswith(one)), None)
            return node if prefix is None else str(self._copy(node.removeprefix(prefix), folder))
        if isinstance(node, dict):
            fields = cast("dict[Any, Any]", node)
            return {key: self._replace(value, folder) for key, value in fields.items()}
        if type(node) is list or type(node) is tuple:
            values = cast("list[Any]", node)
            copies = [self._replace(value, folder) for value in values]
            return copies if isinstance(node, list) else tuple(copies)
        return node

    def _copy(self, path: str, folder: Path) -> Path:
        """Fetch a file part by part: memory holds one part, whatever the file's size."""
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        size = self._store.size(path)
        with open(target, "wb") as file:
            if size is None:
                file.write(self._store.get(path))
            for start in range(0, size or 0, _PART_BYTES):
                file.write(self._store.read(path, start, min(start + _PART_BYTES, size or 0)))
        return target
