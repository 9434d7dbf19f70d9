"""Gives a quiet trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blixt.trainer import Trainer


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
