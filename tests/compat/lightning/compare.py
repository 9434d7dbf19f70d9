"""Where two sides differ: a list of sentences, empty when they agree."""

import math
from typing import Any


def differences(real: Any, ours: Any, where: str = "") -> list[str]:
    """Compare nested plain values; floats must agree to six digits, everything else exactly."""
    if isinstance(real, dict) and isinstance(ours, dict):
        found = [f"{where}: {key!r} is missing" for key in real if key not in ours]
        if ".ckpt" not in where:  # a checkpoint may hold more: whoever reads it takes the keys it knows
            found += [f"{where}: {key!r} is not Lightning's" for key in ours if key not in real]
        both = [key for key in real if key in ours]
        return found + [line for key in both for line in differences(real[key], ours[key], f"{where}/{key}")]
    if isinstance(real, list) and isinstance(ours, list):
        found = [f"{where}: {len(real)} items, ours {len(ours)}"] if len(real) != len(ours) else []
        pairs = enumerate(zip(real, ours, strict=False))
        return found + [line for i, (a, b) in pairs for line in differences(a, b, f"{where}[{i}]")]
    if isinstance(real, float) and isinstance(ours, (int, float)) and not isinstance(ours, bool):
        near = math.isclose(real, ours, rel_tol=1e-6, abs_tol=1e-7) or (math.isnan(real) and math.isnan(ours))
        return [] if near else [f"{where}: {real!r}, ours {ours!r}"]
    same = real == ours and type(real) is type(ours)
    return [] if same else [f"{where}: {real!r}, ours {ours!r}"]
