"""How the vectors beside this file were made, once, by the first writer of format 1.0; never made anew."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from blixt.data import Array, DatasetWriter, Encryption, File, Json, Tokens, index_keys

HERE = Path(__file__).parent
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressed": {"compress": "zstd"},
    "encrypted": {"encrypt": Encryption(bytes(range(32)), "vector")},
    "both": {"compress": "zstd", "encrypt": Encryption(bytes(range(32)), "vector")},
}


def sample(i: int) -> dict[str, Any]:
    return {
        "id": i,
        "score": i / 8,
        "yes": i % 2 == 1,
        "pixels": np.arange(6, dtype=np.uint8).reshape(2, 3) + i,
        "text": f"blå {i} " * 5,
        "raw": bytes(range(i)),
        "json": Json({"list": [i, None, "é"]}),
        "ragged": [Array(np.full((i % 3, 2), i, np.int16)), (File(bytes([i]) * 3, name=f"{i}.bin"),)],
        "tokens": Tokens(range(i), "uint16"),
    }


if __name__ == "__main__":
    if (HERE / "expected.json").exists():
        sys.exit("the vectors are there already, and never change")
    for name, options in FORMS.items():
        with DatasetWriter(HERE / name, chunk_bytes=400, **options) as writer:
            for i in range(7):
                writer.write(sample(i))
        if name == "plain":
            index_keys(HERE / name, "text")
    expected = [
        {
            "id": i,
            "score": i / 8,
            "yes": i % 2 == 1,
            "pixels": [[i, i + 1, i + 2], [i + 3, i + 4, i + 5]],
            "text": f"blå {i} " * 5,
            "raw": list(range(i)),
            "json": {"list": [i, None, "é"]},
            "ragged": [[[i, i]] * (i % 3), [f"{i}.bin", [i] * 3]],
            "tokens": list(range(i)),
        }
        for i in range(7)
    ]
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
