"""Whether a folder holds a whole dataset, and LitData's left-over indexes put together."""

import json
import re
from typing import Any

from blixt.compat.litdata.core.places import location_of
from blixt.data.store import NotFoundError, Store, open_store

_WORKERS = re.compile(r"(\d+-)?\d+\.index\.json")


class ChunkWaitTimeoutError(FileNotFoundError):
    """LitData's error for a chunk that does not come; here a store's error says what went wrong."""

    def __init__(self, path: str, waited_s: float) -> None:
        self.path, self.waited_s = path, waited_s
        super().__init__(f"Timed out after {waited_s:.0f}s waiting for chunk {path}.")


def is_complete_dataset(input_dir: str) -> bool:
    """Whether there is a dataset to read, of blixt or of LitData."""
    return open_store(location_of(input_dir)).size("index.json") is not None


def complete_dataset(input_dir: str) -> str:
    """Put together the indexes that LitData's workers left without merging them; a whole dataset stays.

    Raises:
        FileNotFoundError: when there is nothing to put together. What a build of blixt has not published
            needs its `optimize` called again, which goes on.
        ValueError: when the workers wrote different things.
    """
    if is_complete_dataset(input_dir):
        return input_dir
    store = open_store(location_of(input_dir))
    names = sorted(
        (name for name, _ in store.list() if _WORKERS.fullmatch(name)),
        key=lambda name: [int(number) for number in re.findall(r"\d+", name)],
    )
    if not names:
        raise FileNotFoundError(
            f"The provided dataset `{input_dir}` has no index.json and no worker index shards "
            "({rank}.index.json). Did optimize() finish?"
        )
    store.put("index.json", json.dumps(_joined(store, names), sort_keys=True).encode())
    for name in names:
        store.delete(name)
    return input_dir


def _joined(store: Store, names: list[str]) -> dict[str, Any]:
    chunks: list[Any] = []
    config: Any = None
    for name in names:
        try:
            part = json.loads(store.get(name))
        except NotFoundError:
            continue  # another process put them together meanwhile
        if config is not None and _but_types(part["config"]) != _but_types(config):
            raise ValueError("The config isn't consistent between chunks. This shouldn't have happened.")
        config = config or part["config"]
        chunks += part["chunks"]
    return {"chunks": chunks, "config": config}


def _but_types(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what LitData guessed of the values that a worker saw."""
    return {name: value for name, value in config.items() if name != "types"}
