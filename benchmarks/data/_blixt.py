"""blixt.data as a competitor."""

import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import obstore.store  # noqa: F401
from benchmarks.data._measure import Reader, main
from numpy.random import default_rng  # here, since imports are not measured

import blixt.data.loader.worker  # noqa: F401  imports are not measured, in no system
from blixt.data import Dataset, Jpeg, Loader, TokenDataset

BATCH, BLOCK, DOCUMENTS = 64, 2048, 800


def build_images(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    from blixt.data import DatasetWriter

    data, offsets = np.memmap(folder / "images.bin"), np.load(folder / "images.npy")
    with DatasetWriter(folder / "blixt-images") as writer:
        for i, (low, high) in enumerate(pairwise(offsets)):
            writer.write({"image": Jpeg(data[low:high].tobytes()), "label": i})
    yield len(offsets) - 1


def build_tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    from blixt.data import DatasetWriter

    ids = np.fromfile(folder / "tokens.bin", np.uint16)
    with DatasetWriter(folder / "blixt-tokens") as writer:
        for document in np.array_split(ids, DOCUMENTS):
            writer.write(document)
    yield len(ids)


def build_tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    from blixt.data import DatasetWriter

    values = np.load(folder / "tensors.npy")
    with DatasetWriter(folder / "blixt-tensors") as writer:
        for i, value in enumerate(values):
            writer.write({"x": value, "y": i})
    yield len(values)


def where(folder: Path, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Location and access of a dataset: the folder, or the bucket that the options name."""
    if "s3" not in options:
        return {"location": folder / f"blixt-{kind}"}
    s3 = options["s3"]
    return {
        "location": f"{s3['url']}/blixt-{kind}",
        "credentials": s3["credentials"],
        "options": {"endpoint": s3["endpoint"], "region": "us-east-1"},
        "cache_dir": folder / f"cache-blixt-{options.get('cache', kind)}",
    }


def epoch(loader: Loader, first: int | None) -> Iterator[int]:
    """Yield the size of each batch (a list of bytes, or an array), all of them or the first few."""
    for number, batch in enumerate(loader):
        yield len(batch["label"]) if isinstance(batch, dict) and "label" in batch else len(_leaf(batch))
        if first is not None and number + 1 >= first:
            break
    loader.close()


def _leaf(batch: Any) -> Any:
    return batch["x"] if isinstance(batch, dict) else batch


def loader_of(dataset: Any, options: dict[str, Any]) -> Loader:
    return Loader(
        dataset,
        BATCH,
        workers=options.get("workers", 0),
        mode=options.get("mode", "auto"),
        prefetch=options.get("prefetch", 2),
        views=options.get("views", False),
    )


def raw(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = Dataset(**where(folder, "images", options), shuffle=True, decode=False)
    return epoch(loader_of(dataset, options), options.get("first"))


def decode(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = Dataset(**where(folder, "images", options), shuffle=True)
    return epoch(loader_of(dataset, options), options.get("first"))


def tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = TokenDataset(**where(folder, "tokens", options), block_size=BLOCK, shuffle=True)
    return epoch(loader_of(dataset, options), options.get("first"))


def tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(loader_of(Dataset(folder / "blixt-tensors", shuffle=True), options), options.get("first"))


def access(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    """Read single samples at random places."""
    dataset = Dataset(**where(folder, "images", options), decode=False)
    places = default_rng(1).integers(len(dataset), size=options["count"]).tolist()
    times: list[float] = []
    for place in places:
        start = time.perf_counter()
        sample = dataset[place]
        times.append(time.perf_counter() - start)
        assert sample["label"] == place
        yield 1
    return {"p50_us": statistics.median(times) * 1e6}


READERS: dict[str, Reader] = {
    "build_images": build_images,
    "build_tokens": build_tokens,
    "build_tensors": build_tensors,
    "raw": raw,
    "decode": decode,
    "tokens": tokens,
    "tensors": tensors,
    "access": access,
}

if __name__ == "__main__":
    main(READERS)
