"""The sizes of the small models that GGUF's tests write."""

from typing import Any

SIZES = {"vocab": 512, "d": 64, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 96, "context": 64}
BASE: dict[str, Any] = {**SIZES, "eos": (2,), "bos": 1}
