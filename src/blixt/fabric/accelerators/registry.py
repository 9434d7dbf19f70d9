"""Families of devices by name, with a place for those of other packages."""

from collections.abc import Iterator
from importlib.metadata import entry_points

from blixt.fabric.accelerators.base import Accelerator
from blixt.fabric.accelerators.cpu import CPUAccelerator
from blixt.fabric.accelerators.cuda import CUDAAccelerator
from blixt.fabric.accelerators.mps import MPSAccelerator
from blixt.fabric.errors import ConfigError, WrongTypeError, nearest

_GROUP = "blixt.accelerators"
_KNOWN_PLUGINS = {"xla", "tpu", "hpu", "xpu", "npu"}


class AcceleratorRegistry:
    """Accelerators by name.

    A package adds its own by calling `register`, or without being imported by an entry point of the group
    "blixt.accelerators" whose object is a class of Accelerators:

        [project.entry-points."blixt.accelerators"]
        xla = "blixt_xla:XLAAccelerator"
    """

    def __init__(self) -> None:
        self._made: dict[str, Accelerator] = {}
        self._order: list[str] = []
        self._looked_outside = False

    def register(self, accelerator: Accelerator, *aliases: str, automatic: bool = False) -> None:
        """Add `accelerator` under its name and `aliases`, in place of one that had them.

        Args:
            accelerator: What to add.
            aliases: Further names.
            automatic: Whether `accelerator="auto"` takes it, before the built-in ones, where it is available.
        """
        for name in (accelerator.name, *aliases):
            self._made[name] = accelerator
        if accelerator.name in self._order:
            self._order.remove(accelerator.name)
        if automatic:
            self._order.insert(0, accelerator.name)

    def unregister(self, name: str) -> None:
        """Forget the accelerator called `name`, and its aliases."""
        gone = self._made.get(name)
        self._made = {key: item for key, item in self._made.items() if item is not gone}
        self._order = [key for key in self._order if key in self._made]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._look_outside()
        return sorted(self._made)

    def automatic(self) -> Iterator[Accelerator]:
        """Those that "auto" may take, best first."""
        self._look_outside()
        for name in self._order:
            yield self._made[name]

    def get(self, name: str) -> Accelerator | None:
        """The accelerator called `name`, or None."""
        if name not in self._made:
            self._look_outside()
        return self._made.get(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> Accelerator:
        accelerator = self.get(name)
        if accelerator is None:
            raise KeyError(name)
        return accelerator

    def _look_outside(self) -> None:
        if self._looked_outside:
            return
        self._looked_outside = True
        for point in entry_points(group=_GROUP):
            if point.name not in self._made:
                accelerator: Accelerator = point.load()()
                self.register(accelerator, point.name, automatic=accelerator.is_available())


def _built_in() -> AcceleratorRegistry:
    registry = AcceleratorRegistry()
    registry.register(CPUAccelerator())
    registry.register(MPSAccelerator(), automatic=True)
    registry.register(CUDAAccelerator(), automatic=True)
    return registry


ACCELERATORS = _built_in()
"""The registry that Fabric and Trainer ask."""


def resolve_accelerator(wanted: str | Accelerator) -> Accelerator:
    """The accelerator that is meant; "auto" takes the best of this machine, "gpu" the GPU it has.

    Raises:
        ConfigError: When there is no such accelerator, or this machine has none.
    """
    if isinstance(wanted, Accelerator):
        return _available(wanted, type(wanted).__name__)
    if not isinstance(wanted, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
        raise WrongTypeError("accelerator", wanted, "it is no accelerator", "Use 'auto', or an Accelerator")
    name = wanted.lower()
    if name == "auto":
        return next((a for a in ACCELERATORS.automatic() if a.is_available()), ACCELERATORS["cpu"])
    if name == "gpu":
        for kind in ("cuda", "mps"):
            if ACCELERATORS[kind].is_available():
                return ACCELERATORS[kind]
        raise ConfigError(
            "accelerator", wanted, "torch finds no GPU on this machine", "Use accelerator='cpu'"
        )
    accelerator = ACCELERATORS.get(name)
    if accelerator is None:
        raise ConfigError("accelerator", wanted, "there is no such accelerator", _hint(name))
    return _available(accelerator, name)


def _available(accelerator: Accelerator, name: str) -> Accelerator:
    if not accelerator.is_available():
        reason = f"torch finds no {name} device on this machine"
        raise ConfigError("accelerator", name, reason, "Use accelerator='auto'")
    return accelerator


def _hint(name: str) -> str:
    if name in _KNOWN_PLUGINS:
        return f"Install a package that registers {name!r} (entry point group {_GROUP!r})"
    return nearest(name, ["auto", "gpu", *ACCELERATORS.names()]).rstrip("?")
