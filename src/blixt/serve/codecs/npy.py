"""The .npy format on the wire."""

import io
from typing import Any

NPY = "application/x-npy"


def npy(array: Any) -> bytes:
    """An array, or whatever numpy takes for one, as a .npy file."""
    import numpy as np

    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
