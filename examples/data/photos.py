"""Pictures to batches: build once, read in any order, train, and go on at the exact picture.

    python examples/data/photos.py [FOLDER]

The pictures are crops of photographs that come with scikit-image, so that this downloads nothing. It takes a
few seconds.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from skimage import data

from blixt.data import Dataset, Jpeg, Loader, optimize, split, verify

CLASSES = ("astronaut", "coffee", "chelsea", "rocket")
CROPS = 25


def crops(label: int) -> Iterator[dict[str, Any]]:
    """Cut one photograph into crops; arrays are stored as JPEGs."""
    picture = getattr(data, CLASSES[label])()
    random = np.random.default_rng(label)
    for number in range(CROPS):
        top, left = (int(random.integers(0, side - 128)) for side in picture.shape[:2])
        crop = picture[top : top + 128, left : left + 128]
        yield {"image": Jpeg(crop, quality=90), "label": label, "number": number}


def flip(sample: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Mirror half of the pictures: the same half on any number of workers, and after a restart."""
    return {**sample, "image": sample["image"][:, ::-1] if random.random() < 0.5 else sample["image"]}


def main(folder: Path) -> None:
    """Build, look, read."""
    snapshot = optimize(crops, range(len(CLASSES)), folder, num_workers=2, mode="overwrite", progress=False)
    print(f"{snapshot.rows} pictures, every byte as it was written: {verify(folder).ok}")

    training, validation = split(Dataset(folder, shuffle=True, seed=0), [0.8, 0.2])
    loader = Loader(training, batch_size=16, transform=flip, random=True, mode="threads")
    print(f"{len(training)} to train on in {len(loader)} batches, {len(validation)} to validate with")

    batches = iter(loader)
    first = next(batches)
    labels = sorted(set(first["label"].tolist()))
    print(f"a batch: {first['image'].dtype} {first['image'].shape}, labels {labels}")
    state = json.dumps(loader.state_dict())
    expected = next(batches)

    again, _ = split(Dataset(folder), [0.8, 0.2])
    resumed = Loader(again, batch_size=16, transform=flip, random=True, workers=2, mode="threads")
    resumed.load_state_dict(json.loads(state))
    found = next(iter(resumed))
    print(f"the resumed run reads the same batch: {np.array_equal(found['image'], expected['image'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
