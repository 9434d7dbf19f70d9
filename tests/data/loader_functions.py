"""Functions that loaders run in their workers, and a dataset of numbers; importable by name."""

import os
import signal
import sys
import threading
from typing import Any

import numpy as np

from blixt.data.rows import Allocate, Rows


class Numbers(Rows[Any]):
    """Row i is `{"x": i}`, or for a batch an array; nothing is stored."""

    def __init__(
        self, rows: int, *, shuffle: bool = False, seed: int = 0, name: str = "numbers", **ranks: Any
    ) -> None:
        super().__init__(
            rows=rows,
            row_bytes=1 << 16,
            identity={"name": name, "rows": rows},
            shuffle=shuffle,
            seed=seed,
            window=2,
            rank=ranks.get("rank"),
            world_size=ranks.get("world_size"),
        )
        self.planned: list[int] = []

    def gather(self, rows: Any, allocate: Allocate = np.empty) -> Any:
        out = allocate((len(rows),), np.int64)
        out[...] = rows
        return {"x": out}

    def item(self, row: int) -> Any:
        return {"x": row}

    def plan_ahead(self, rows: Any) -> None:
        self.planned += rows.tolist()


def double(sample: Any) -> Any:
    return {"x": sample["x"] * 2}


def keep_even(sample: Any) -> Any:
    return sample if sample["x"] % 2 == 0 else None


def keep_none_below_16(sample: Any) -> Any:
    return sample if sample["x"] >= 16 else None


def fail_at_13(sample: Any) -> Any:
    if sample["x"] == 13:
        raise KeyError("no thirteen")
    return sample


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot travel")


def fail_strangely(sample: Any) -> Any:
    raise Unpicklable(1, 2)


def fail_batch(batch: Any) -> Any:
    raise ZeroDivisionError("in the batch")


def noisy(sample: Any, rng: np.random.Generator) -> Any:
    return {"x": sample["x"], "noise": rng.random()}


def die_at_13(sample: Any) -> Any:
    if sample["x"] == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


def leave_at_13(sample: Any) -> Any:
    if sample["x"] == 13:
        os._exit(7)
    return sample


def hang_at_13(sample: Any) -> Any:
    if sample["x"] == 13:
        threading.Event().wait()
    return sample


def with_pid(batch: Any) -> Any:
    return {**batch, "pid": os.getpid()}


class Thing:
    def __init__(self, x: int) -> None:
        self.x = x


def to_thing(sample: Any) -> Any:
    return {"thing": Thing(sample["x"])}


def every_kind(sample: Any) -> Any:
    x = sample["x"]
    return {
        "array": np.full((3, 2), x, np.float32),
        "number": x / 2,
        "flag": x % 2 == 0,
        "text": "blå" * (x % 3),
        "raw": bytes(range(x % 5)),
        "ragged": np.arange(x % 4),
        "pair": (np.int16(x), [x, str(x)]),
        "none": None,
    }


def to_tensor(batch: Any) -> Any:
    import torch

    return {"t": torch.from_numpy(batch["x"]), "half": torch.ones(2, dtype=torch.bfloat16)}


def big(sample: Any) -> Any:
    return {"x": np.zeros(1000, np.int64) + sample["x"]}


def torch_threads(batch: Any) -> Any:
    return "torch" in sys.modules
