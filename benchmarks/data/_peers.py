"""Peers whose requirements contradict ours get environments of their own: `python -m benchmarks.data._peers`.

mosaicml-streaming 0.13 wants numpy < 2.2 and transformers < 5. It also imports torchvision for datasets
that are not used here, and torchvision's wheel does not load beside a CPU-only torch: a stand-in with the
two names it imports takes its place. LitData lives in our own environment, since it runs there.
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MOSAIC = ROOT / ".venv" / "peers" / "mosaic"
REQUIREMENTS = HERE / "peers-mosaic.txt"
_STAND_INS = {
    "torchvision/__init__.py": "",
    "torchvision/datasets.py": "class VisionDataset: ...\n",
    "torchvision/transforms/__init__.py": "",
    "torchvision/transforms/functional.py": "def to_tensor(image): raise RuntimeError('a stand-in')\n",
}


def install() -> None:
    """Make the environment of mosaicml-streaming, unless it is there."""
    python = MOSAIC / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", MOSAIC], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
    site = next((MOSAIC / "lib").glob("python*/site-packages"))
    for name, text in _STAND_INS.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run([python, "-c", "import streaming"], check=True)


@cache
def python(system: str) -> str | None:
    """Return the interpreter that a system runs in, None where it is not installed."""
    if system == "mosaic":
        path = MOSAIC / "bin" / "python"
        return str(path) if path.exists() else None
    if system == "litdata" and importlib.util.find_spec("litdata") is None:
        return None
    return sys.executable


@cache
def versions() -> dict[str, str]:
    """Return the versions of all that take part."""
    found = {"blixt": importlib.metadata.version("blixt")}
    for name in ("litdata", "torch", "numpy", "obstore", "simplejpeg"):
        if importlib.util.find_spec(name):
            found[name] = importlib.metadata.version(name)
    if python("mosaic"):
        for pin in REQUIREMENTS.read_text().split():
            if pin.startswith("mosaicml-streaming=="):
                found["mosaicml-streaming"] = pin.split("==")[1]
    return found


if __name__ == "__main__":
    install()
