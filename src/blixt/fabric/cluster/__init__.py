"""Who started this process, and which rank it has: one small file per kind of cluster."""

from blixt.fabric.cluster.base import World
from blixt.fabric.cluster.torchrun import detect_torchrun

__all__ = ["World", "detect_world"]


def detect_world() -> World | None:
    """The world that someone else started this process in, or None when it stands alone."""
    return detect_torchrun()
