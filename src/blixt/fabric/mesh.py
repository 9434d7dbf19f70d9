"""How many processes share what: data, parameters, layers, sequences, stages; as a named grid."""

from dataclasses import astuple, dataclass, fields, replace
from datetime import timedelta
from math import prod
from typing import TYPE_CHECKING, Any, cast

from blixt.fabric.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

DIMENSIONS = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
"""Names of the grid's axes, the one whose processes talk least first."""


@dataclass(frozen=True)
class Parallel:
    """Sizes of the axes along which processes share the work; one of them may be -1, "all that is left".

    Attributes:
        dp_replicate: Groups with different data and whole copies of each other's parameters.
        dp_shard: Processes with different data that keep a shard of every parameter each.
        tp: Processes that share each layer's work (tensor parallel), on the same data.
        cp: Processes that share each sequence (context parallel), on the same data.
        pp: Stages that the layers are divided into (pipeline parallel), on the same data.

    Example:
        >>> Parallel(tp=2).resolve(8)
        Parallel(dp_replicate=1, dp_shard=4, tp=2, cp=1, pp=1)
    """

    dp_replicate: int = 1
    dp_shard: int = -1
    tp: int = 1
    cp: int = 1
    pp: int = 1

    def __post_init__(self) -> None:
        for name, size in self.sizes().items():
            if not isinstance(cast("object", size), int) or isinstance(size, bool) or size == 0 or size < -1:
                reason = "a size is a number of processes, or -1 for all that are left"
                raise ConfigError(f"Parallel({name})", size, reason, "Use 1 or more, or -1")
        open_sizes = [name for name, size in self.sizes().items() if size == -1]
        if len(open_sizes) > 1:
            reason = f"{open_sizes[0]} is -1 as well, and only one size can follow from the others"
            raise ConfigError(f"Parallel({open_sizes[1]})", -1, reason, "Say how many for one of them")

    def sizes(self) -> dict[str, int]:
        """Size by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def resolve(self, world_size: int) -> "Parallel":
        """The same with every size known, for `world_size` processes.

        Raises:
            ConfigError: When the sizes do not multiply to `world_size`.
        """
        known = prod(size for size in astuple(self) if size != -1)
        written = " * ".join(f"{name}={size}" for name, size in self.sizes().items() if size != 1) or "1"
        if world_size % known or (known != world_size and -1 not in astuple(self)):
            reason = f"{written} does not make {world_size} process(es)"
            fix = (
                f"Start {known} process(es) or a multiple of it" if -1 in astuple(self) else f"Start {known}"
            )
            raise ConfigError("strategy(parallel)", self, reason, f"{fix}, or change a size")
        open_name = next((name for name, size in self.sizes().items() if size == -1), None)
        return self if open_name is None else replace(self, **{open_name: world_size // known})

    def make_mesh(self, device_type: str, timeout_s: float | None = None) -> "DeviceMesh":
        """The grid with the axes of `DIMENSIONS`, all of them, also those of size 1; a collective.

        Args:
            device_type: Of its devices.
            timeout_s: How long collectives along an axis wait; None for torch's default.
        """
        from torch.distributed.device_mesh import init_device_mesh

        shape = tuple(getattr(self, name) for name in DIMENSIONS)
        return limited(init_device_mesh(device_type, shape, mesh_dim_names=DIMENSIONS), timeout_s)

    @property
    def data_parallel_size(self) -> int:
        """Among how many groups the data is divided."""
        return self.dp_replicate * self.dp_shard


def flat(
    mesh: "DeviceMesh", names: tuple[str, ...], name: str, timeout_s: float | None = None
) -> "DeviceMesh":
    """Some axes of `mesh` as one axis called `name`; a collective unless they are one axis already."""
    if len(names) == 1:
        return mesh[names[0]]
    return limited(cast("Any", mesh[names])._flatten(name), timeout_s)  # torch has no public name for it


def limited(mesh: "DeviceMesh", timeout_s: float | None) -> "DeviceMesh":
    """The same mesh, whose groups wait so long for each other: torch gives them its own default."""
    if timeout_s is None:
        return mesh
    from torch.distributed import distributed_c10d

    for group in mesh.get_all_groups():
        cast("Any", distributed_c10d)._set_pg_timeout(timedelta(seconds=timeout_s), group)
    return mesh


def data_parallel_rank(mesh: "DeviceMesh", names: tuple[str, ...]) -> int:
    """This process's place along the axes `names` taken together, row by row."""
    rank = 0
    for name in names:
        axis = mesh[name]
        rank = rank * axis.size() + axis.get_local_rank()
    return rank
