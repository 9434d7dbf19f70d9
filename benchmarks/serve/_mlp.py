"""The model of the batched benchmark, the same under every server: three layers of 512 x 512 on the CPU."""

from collections.abc import Callable

WIDTH = 512


def make() -> Callable[[list[list[float]]], list[float]]:
    """The model: rows of 512 floats in, one float a row out. One thread, so that servers share no cores."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        *(layer for _ in range(3) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()))
    ).eval()

    @torch.inference_mode()
    def run(rows: list[list[float]]) -> list[float]:
        batch = torch.from_numpy(np.stack([np.array(row, np.float32) for row in rows]))
        return layers(batch).mean(1).tolist()

    return run
