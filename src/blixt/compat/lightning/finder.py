"""An import finder that answers for Lightning's packages with blixt's names.

Modules are made on demand from the tables in `names`: a module's attribute is looked up in its table,
imported from where blixt keeps it, and kept. Every module is a package without files, so that
`from module import name` asks this finder for a name that the module lacks, and the answer is a sentence
rather than "cannot import".
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from blixt.compat.lightning.names import gone, lookup

VERSION = "2.6.6"
"""The version of Lightning whose public names are given."""

PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric")


class LightningFinder(MetaPathFinder, Loader):
    """Finds Lightning's modules in blixt's tables, and makes them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for each of Lightning's public modules; None for what is not Lightning's.

        Raises:
            ModuleNotFoundError: For a name of Lightning's that blixt does not have, with what to use.
        """
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        if lookup.is_module(fullname):
            return ModuleSpec(
                fullname, self, origin="blixt.compat.lightning", is_package=self.is_package(fullname)
            )
        parent, _, name = fullname.rpartition(".")
        # Under its own name importlib would take this for a missing submodule and drop the sentence.
        raise ModuleNotFoundError(gone.sentence(parent, name), name=f"{parent}:{name}")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module without a file."""
        module = ModuleType(spec.name, f"Lightning's {spec.name}, made of blixt's names.")
        if self.is_package(spec.name):
            module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its table: names resolve on first use."""
        names = lookup.public_names(module.__name__)
        module.__dict__.update(
            __version__=VERSION,
            __all__=names,
            __getattr__=_resolver(module),
            __dir__=lambda: sorted({*module.__dict__, *names, *lookup.submodules(module.__name__)}),
        )

    def get_code(self, fullname: str) -> CodeType:
        """What `python -m` runs: the module's own command."""
        command = lookup.command(fullname)
        if command is None:
            raise ImportError(f"{fullname} is not a command.", name=fullname)
        file, _, function = command.partition(":")
        return compile(f"from {file} import {function}\n{function}()", f"<{fullname}>", "exec")

    def is_package(self, fullname: str) -> bool:
        """For `runpy`, a module with a command is a plain one."""
        return lookup.command(fullname) is None


def _resolver(module: ModuleType) -> Callable[[str], object]:
    def resolve(name: str) -> object:
        owner = module.__name__
        if name in lookup.submodules(owner):
            return import_module(f"{owner}.{name}")
        target = lookup.target(owner, name)
        if target is None:
            raise AttributeError(gone.sentence(owner, name))
        value = lookup.load(owner, name, target)
        module.__dict__[name] = value
        return value

    return resolve


_FINDER = LightningFinder()


def register() -> None:
    """Put the finder before all others in this process.

    Raises:
        ImportError: When Lightning itself was imported before.
    """
    for name in PACKAGES:
        module = sys.modules.get(name)
        if module is not None and getattr(module.__spec__, "loader", None) is not _FINDER:
            place = getattr(module, "__file__", "an unknown place")
            raise ImportError(
                f"{name} is imported already, from {place}. Call blixt.compat.lightning.install() first.",
                name=name,
            )
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def replace(name: str) -> None:
    """Put the finder's package in the place of the one that is being imported under `name`."""
    sys.modules.pop(name, None)
    register()
    import_module(name)
