"""A quiet trainer; one thread is enough for models this small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.trainer import Trainer


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes trainers that run on the CPU and write nothing unless told to."""

    def make(**options: Any) -> Trainer:
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return Trainer(**{**quiet, **options})

    return make
