"""mosaicml-streaming as a competitor: MDS shards in torch's DataLoader, in an environment of `_peers`."""

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from benchmarks.data._measure import Reader, main
from numpy.random import default_rng
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

BATCH, BLOCK = 64, 2048


def build_images(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    data, offsets = np.memmap(folder / "images.bin"), np.load(folder / "images.npy")
    columns = {"image": "bytes", "label": "int"}
    with MDSWriter(out=str(folder / "mosaic-images"), columns=columns, size_limit="64mb") as out:
        for i in range(len(offsets) - 1):
            out.write({"image": data[offsets[i] : offsets[i + 1]].tobytes(), "label": i})
    yield len(offsets) - 1


def build_tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    ids = np.memmap(folder / "tokens.bin", np.uint16)
    with MDSWriter(out=str(folder / "mosaic-tokens"), columns={"ids": "bytes"}, size_limit="64mb") as out:
        for low in range(0, len(ids) - BLOCK, BLOCK):
            out.write({"ids": ids[low : low + BLOCK + 1].tobytes()})
    yield len(ids)


def build_tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    values = np.load(folder / "tensors.npy")
    columns = {"x": "ndarray:float32:64", "y": "int"}
    with MDSWriter(out=str(folder / "mosaic-tensors"), columns=columns, size_limit="64mb") as out:
        for i, value in enumerate(values):
            out.write({"x": value, "y": i})
    yield len(values)


def dataset_of(folder: Path, kind: str, options: dict[str, Any]) -> StreamingDataset:
    clean_stale_shared_memory()
    shuffled = {"shuffle": options.get("shuffle", True), "batch_size": BATCH, "num_canonical_nodes": 1}
    if "s3" not in options:
        return StreamingDataset(local=str(folder / f"mosaic-{kind}"), **shuffled)
    s3 = options["s3"]
    os.environ.update(
        AWS_ACCESS_KEY_ID=s3["credentials"]["access_key_id"],
        AWS_SECRET_ACCESS_KEY=s3["credentials"]["secret_access_key"],
        S3_ENDPOINT_URL=s3["endpoint"],
        AWS_DEFAULT_REGION="us-east-1",
    )
    local = folder / f"cache-mosaic-{options.get('cache', kind)}"
    return StreamingDataset(remote=f"{s3['url']}/mosaic-{kind}", local=str(local), **shuffled)


def as_lists(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"image": [one["image"] for one in samples], "label": np.array([one["label"] for one in samples])}


def decoded(samples: list[dict[str, Any]]) -> dict[str, Any]:
    images = [torch.from_numpy(simplejpeg.decode_jpeg(one["image"], "RGB")) for one in samples]
    return {"image": torch.stack(images), "label": torch.tensor([one["label"] for one in samples])}


def as_tokens(samples: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack(
        [torch.from_numpy(np.frombuffer(one["ids"], np.uint16).astype(np.int64)) for one in samples]
    )


def epoch(dataset: StreamingDataset, options: dict[str, Any], collate: Any = None) -> Iterator[int]:
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH, num_workers=options["workers"], drop_last=True, collate_fn=collate
    )
    batches = iter(loader)
    for number, batch in enumerate(batches):
        yield len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
        if number + 1 >= options.get("first", 1 << 60):
            break
    del batches, loader


def raw(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "images", options), options, as_lists)


def decode(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "images", options), options, decoded)


def tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "tokens", options), options, as_tokens)


def tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "tensors", options), options)


def access(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = dataset_of(folder, "images", {**options, "shuffle": False})
    places = default_rng(1).integers(dataset.num_samples, size=options["count"]).tolist()
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
