"""The flags by which Lightning tells what is installed, and with which version."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def _at_least(package: str, *wanted: int) -> bool:
    try:
        found = version(package)
    except PackageNotFoundError:
        return False
    numbers = found.split("+")[0].split(".")[: len(wanted)]
    digits = ["".join(char for char in part if char.isdigit()) for part in numbers]
    return tuple(int(part or 0) for part in digits) >= wanted


def package_available(package_name: str) -> bool:
    """Whether a package is installed."""
    try:
        return find_spec(package_name) is not None
    except ModuleNotFoundError:
        return False


def module_available(module_path: str) -> bool:
    """Whether a module can be found, its parents imported."""
    return package_available(module_path)


_IS_WINDOWS = platform.system() == "Windows"
_IS_INTERACTIVE = hasattr(sys, "ps1") or bool(sys.flags.interactive)
_NUMPY_AVAILABLE = package_available("numpy")
_OMEGACONF_AVAILABLE = package_available("omegaconf")
_RICH_AVAILABLE = package_available("rich")
_TORCHVISION_AVAILABLE = package_available("torchvision")
_TORCHMETRICS_GREATER_EQUAL_1_0_0 = _at_least("torchmetrics", 1, 0, 0)
_PYTHON_GREATER_EQUAL_3_10_0 = sys.version_info >= (3, 10)
_TORCH_FLAGS = {f"_TORCH_GREATER_EQUAL_2_{minor}": _at_least("torch", 2, minor) for minor in range(20)} | {
    "_TORCH_GREATER_EQUAL_2_4_1": _at_least("torch", 2, 4, 1)
}


def __getattr__(name: str) -> bool:
    try:
        return _TORCH_FLAGS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
