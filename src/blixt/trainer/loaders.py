"""Find the loaders of a stage, make them resumable, and know how many batches they give."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from blixt.fabric import ConfigError, Fabric, ResumableLoader
from blixt.fabric.samplers import with_parts
from blixt.trainer.config import Limit, TrainerConfig
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import overridden
from blixt.trainer.module import Module


@dataclass(frozen=True)
class StageLoader:
    """One loader and how much of it counts.

    Attributes:
        batches: Where batches come from.
        total: How many there will be; None when nobody knows.
        cut: Whether to stop after `total` although there is more.
    """

    batches: ResumableLoader
    total: int | None
    cut: bool


Transfer = Callable[[Any, int], Any]


def find_loaders(stage: str, given: Any, module: Module, datamodule: DataModule | None) -> Any:
    """What was given to fit/validate/test/predict, else what the data module or the module makes."""
    if given is not None:
        return given
    name = f"{stage}_dataloader"
    if datamodule is not None and overridden(datamodule, name, DataModule):
        return getattr(datamodule, name)()
    return getattr(module, name)()


def as_sequence(loaders: Any) -> list[Iterable[Any]]:
    """One loader, a list or a dict of them, as a list; none as an empty one."""
    if loaders is None:
        return []
    if isinstance(loaders, Mapping):
        return list(cast("Mapping[str, Iterable[Any]]", loaders).values())
    if isinstance(loaders, (list, tuple)) and all(_is_loader(item) for item in cast("list[Any]", loaders)):
        return list(cast("list[Iterable[Any]]", loaders))
    return [loaders]


def prepare(
    loader: Iterable[Any], stage: str, fabric: Fabric, config: TrainerConfig, transfer: Transfer | None
) -> StageLoader:
    """Make one loader of `stage` ("train", "val", "test" or "predict") ready to run."""
    if not hasattr(loader, "__iter__"):
        reason = f"a {type(loader).__name__} cannot be iterated"
        raise ConfigError(f"{stage}_dataloader()", type(loader).__name__, reason, "Return a DataLoader")
    if config.overfit_batches and stage == "train" and isinstance(loader, DataLoader):
        loader = _in_order(cast("DataLoader[Any]", loader))
    ready = fabric.make_loader(
        loader,
        shard=config.use_distributed_sampler,
        even=stage == "train",
        move_to_device=transfer is None,
    )
    limit: Limit = getattr(config, f"limit_{stage}_batches")
    length = _length(ready)
    total = _limited(limit, length, f"limit_{stage}_batches")
    return StageLoader(ready, total, total is not None and (length is None or total < length))


def transfer_hooks(module: Module, datamodule: DataModule | None, fabric: Fabric) -> Transfer | None:
    """The three transfer hooks as one function, or None when nobody overrides one of them."""
    names = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    owners: list[Any] = []
    for name in names:
        on_data = datamodule is not None and overridden(datamodule, name, DataModule)
        owners.append(datamodule if on_data else module)
    changed = [
        overridden(owner, name, DataModule if owner is datamodule else Module)
        for owner, name in zip(owners, names, strict=True)
    ]
    if not any(changed):
        return None
    before, move, after = (getattr(owner, name) for owner, name in zip(owners, names, strict=True))
    device = fabric.device

    def transfer(batch: Any, loader_index: int) -> Any:
        return after(move(before(batch, loader_index), device, loader_index), loader_index)

    return transfer


def _is_loader(item: Any) -> bool:
    return hasattr(item, "__iter__") and not hasattr(item, "shape")


def _length(loader: ResumableLoader) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def _limited(limit: Limit, length: int | None, name: str) -> int | None:
    if isinstance(limit, int):
        return limit if length is None else min(limit, length)
    if length is not None:
        total = int(length * limit)
        if total == 0 and length > 0 and limit > 0:
            reason = f"that part of {length} batches is less than one"
            raise ConfigError(f"Trainer({name})", limit, reason, f"Use at least {1 / length:.3g}")
        return total
    if limit not in (0.0, 1.0):
        reason = "a part of a loader without a length is unknown"
        raise ConfigError(f"Trainer({name})", limit, reason, "Use a number of batches, e.g. 100")
    return 0 if limit == 0.0 else None


def _in_order(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader without its shuffle: overfitting looks at the same few batches again and again."""
    sampler = SequentialSampler(cast("Any", loader.dataset))
    batches: BatchSampler = cast("Any", loader).batch_sampler
    return with_parts(
        loader, sampler=sampler, batch_sampler=BatchSampler(sampler, batches.batch_size, batches.drop_last)
    )
