"""The data of the benchmarks, made once per folder, the same for every system.

- images: JPEGs of 256 x 256, cut at random from photographs that ship in installed packages
  (scikit-image, scikit-learn),
  with colour jitter, a gradient, noise and quality 80 to 92; kept as one file and offsets.
- tokens: uint16 ids with Zipf's law.
- tensors: 64 float32 and a number per sample.
"""

import io
import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.data._bench import ROOT, TIMEOUT_S, environment, python_of

SIDE = 256
BLOCK = 2048
FULL = {"images": 20_000, "tokens": 100_000_000, "tensors": 100_000}
QUICK = {"images": 2_000, "tokens": 10_000_000, "tensors": 20_000}
TOKEN_SHARDS = 8


def make(kind: str, folder: Path, *, quick: bool, systems: list[str]) -> dict[str, Any]:
    """Make data of a kind for the systems, unless the folder has it; return its facts."""
    count = (QUICK if quick else FULL)[kind]
    facts_path = folder / f"{kind}.json"
    facts = json.loads(facts_path.read_text()) if facts_path.exists() else {"count": count, "systems": []}
    if facts["count"] != count:
        raise SystemExit(f"{folder} holds {facts['count']} {kind}, not {count}; use another folder")
    if not facts["systems"]:
        facts["bytes"] = SOURCES[kind](folder, count)
    for system in systems:
        python = python_of(system)
        if system not in facts["systems"] and python is not None:
            command = [python, "-m", f"benchmarks.data._{system}", f"build_{kind}", str(folder), "{}"]
            subprocess.run(
                command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, env=environment()
            )
            facts["systems"].append(system)
    facts_path.write_text(json.dumps(facts))
    return facts


def _make_images(folder: Path, count: int) -> int:
    import simplejpeg

    photographs = _photographs()
    rng = np.random.default_rng(0)
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    offsets = [0]
    with open(folder / "images.bin", "wb") as out:
        for _ in range(count):
            photograph = photographs[rng.integers(len(photographs))]
            y, x = (int(rng.integers(side - SIDE + 1)) for side in photograph.shape[:2])
            crop = photograph[y : y + SIDE, x : x + SIDE].astype(np.float32)
            crop = crop * rng.uniform(0.8, 1.2, 3).astype(np.float32) + rng.uniform(-15, 15)
            crop += (ramp[:, None] * rng.uniform(-20, 20) + ramp[None, :] * rng.uniform(-20, 20))[..., None]
            crop += rng.normal(0, rng.uniform(0, 5), (SIDE, SIDE, 1)).astype(np.float32)
            pixels = np.ascontiguousarray(np.clip(crop, 0, 255).astype(np.uint8))
            data = simplejpeg.encode_jpeg(pixels, quality=int(rng.integers(80, 93)), colorsubsampling="420")
            offsets.append(offsets[-1] + out.write(data))
    np.save(folder / "images.npy", np.array(offsets))
    return offsets[-1]


def _photographs() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Load every photograph of at least 256 x 256 that the packages carry."""
    from PIL import Image

    found: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    for package, place in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(
                f"the benchmarks cut their images from {package}'s; install scikit-image and scikit-learn"
            )
        for path in sorted((Path(spec.origin).parent / place).glob("*.[jp][pn]g")):
            image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
            if min(image.shape[:2]) >= SIDE:
                found.append(image)
    return found


def _make_tokens(folder: Path, count: int) -> int:
    rng = np.random.default_rng(0)
    with open(folder / "tokens.bin", "wb") as out:
        for low in range(0, count, 10_000_000):
            ids = rng.zipf(1.2, min(10_000_000, count - low)) % 50_000
            ids.astype(np.uint16).tofile(out)
    return 2 * count


def _make_tensors(folder: Path, count: int) -> int:
    np.save(folder / "tensors.npy", np.random.default_rng(0).standard_normal((count, 64), np.float32))
    return 260 * count


SOURCES = {"images": _make_images, "tokens": _make_tokens, "tensors": _make_tensors}
