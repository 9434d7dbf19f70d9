"""LitData as a competitor: its own StreamingDataLoader, our decoder and the same batches.

LitData 0.2.76 refuses S3 endpoints over plain http once obstore is installed: its client options are
hard-coded without `allow_http`. `raw` and `tokens` from S3 add that option; nothing else is changed.
"""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata.streaming.downloader as downloader
import numpy as np
import obstore.store  # noqa: F401  imports are not measured, in no system
import simplejpeg
import torch
from benchmarks.data._measure import Reader, main
from litdata import StreamingDataLoader, StreamingDataset, TokensLoader, optimize
from numpy.random import default_rng

BATCH, BLOCK, SHARDS = 64, 2048, 8


def image_at(folder: Path, i: int) -> dict[str, Any]:
    offsets = np.load(folder / "images.npy", mmap_mode="r")
    return {"image": np.memmap(folder / "images.bin")[offsets[i] : offsets[i + 1]].tobytes(), "label": i}


def tensor_at(folder: Path, i: int) -> dict[str, Any]:
    return {"x": np.load(folder / "tensors.npy", mmap_mode="r")[i].copy(), "y": i}


def tokens_at(folder: Path, part: int) -> torch.Tensor:
    ids = np.memmap(folder / "tokens.bin", np.uint16)
    return torch.from_numpy(np.array_split(ids, SHARDS)[part].astype(np.uint16))


def build_images(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    count = len(np.load(folder / "images.npy")) - 1
    optimize(
        partial(image_at, folder),
        list(range(count)),
        str(folder / "litdata-images"),
        chunk_bytes="64MB",
        num_workers=1,
    )
    yield count


def build_tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    size = (folder / "tokens.bin").stat().st_size // 2
    optimize(
        partial(tokens_at, folder),
        list(range(SHARDS)),
        str(folder / "litdata-tokens"),
        chunk_size=(size // SHARDS // (BLOCK + 1) + 1) * (BLOCK + 1),
        item_loader=TokensLoader(block_size=BLOCK + 1),
        num_workers=1,
    )
    yield size


def build_tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    count = len(np.load(folder / "tensors.npy", mmap_mode="r"))
    optimize(
        partial(tensor_at, folder),
        list(range(count)),
        str(folder / "litdata-tensors"),
        chunk_bytes="64MB",
        num_workers=1,
    )
    yield count


def dataset_of(folder: Path, kind: str, options: dict[str, Any], **more: Any) -> StreamingDataset:
    """Open a dataset in the folder, or in the bucket that the options name."""
    if "s3" not in options:
        return StreamingDataset(str(folder / f"litdata-{kind}"), shuffle=True, **more)
    s3 = options["s3"]
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # pyright: ignore
    return StreamingDataset(
        f"{s3['url']}/litdata-{kind}",
        cache_dir=str(folder / f"cache-litdata-{options.get('cache', kind)}"),
        shuffle=True,
        storage_options={
            "aws_access_key_id": s3["credentials"]["access_key_id"],
            "aws_secret_access_key": s3["credentials"]["secret_access_key"],
            "endpoint_url": s3["endpoint"],
            "region_name": "us-east-1",
        },
        **more,
    )


def as_lists(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"image": [one["image"] for one in samples], "label": np.array([one["label"] for one in samples])}


def decoded(samples: list[dict[str, Any]]) -> dict[str, Any]:
    images = [torch.from_numpy(simplejpeg.decode_jpeg(one["image"], "RGB")) for one in samples]
    return {"image": torch.stack(images), "label": torch.tensor([one["label"] for one in samples])}


def epoch(dataset: StreamingDataset, options: dict[str, Any], **more: Any) -> Iterator[int]:
    loader = StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=options["workers"], drop_last=True, **more
    )
    batches = iter(loader)
    for number, batch in enumerate(batches):
        yield len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
        if number + 1 >= options.get("first", 1 << 60):
            break
    del batches, loader


def raw(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "images", options), options, collate_fn=as_lists)


def decode(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    return epoch(dataset_of(folder, "images", options), options, collate_fn=decoded)


def tokens(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = dataset_of(folder, "tokens", options, item_loader=TokensLoader(BLOCK + 1))
    return epoch(dataset, options, collate_fn=stacked)


def stacked(blocks: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([block.to(torch.int64) for block in blocks])


def tensors(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = StreamingDataset(str(folder / "litdata-tensors"), shuffle=True, **options.get("dataset", {}))
    return epoch(dataset, options)


def access(folder: Path, options: dict[str, Any]) -> Iterator[int]:
    dataset = StreamingDataset(str(folder / "litdata-images"))
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
