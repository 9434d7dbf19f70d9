"""Lightning's module paths and names, made of `blixt.trainer` and `blixt.fabric`.

`python -m blixt.compat.lightning script.py` runs a script that imports `lightning`, `pytorch_lightning` or
`lightning_fabric` unchanged; worker processes and the ranks it starts find the same names. In a program of
your own, `install()` does so before the first such import. Nothing here imports Lightning, and nothing here
trains: every name is one of blixt's, or is refused with a sentence that says what to use.
"""

from pathlib import Path

from blixt.compat.door import open_door
from blixt.compat.lightning.finder import VERSION, register

__version__ = VERSION
__all__ = ["folder", "install"]


def folder() -> Path:
    """The folder to put first on PYTHONPATH; it holds packages of Lightning's three names."""
    return Path(__file__).parent / "path"


def install() -> None:
    """Make Lightning's names importable in this process and in every process that it starts.

    Raises:
        ImportError: When the real Lightning is imported already; call this first.

    Example:
        >>> install()
        >>> from lightning.pytorch import LightningModule
        >>> LightningModule.__module__
        'blixt.trainer.module'
    """
    register()
    open_door(folder())
