"""Find the loaders of a stage, make them resumable, and know how many batches they give."""

import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from blixt.fabric import ConfigError, Fabric, FabricError, ResumableLoader, all_gather_objects
from blixt.fabric.agree import DataLeft
from blixt.fabric.errors import WrongTypeError
from blixt.fabric.samplers import with_parts
from blixt.trainer.combined import CombinedLoader, length_of
from blixt.trainer.combined_batches import AheadBatches, Batches, CombinedBatches, close
from blixt.trainer.combined_modes import Mode, length
from blixt.trainer.combined_steps import DrawnBatches
from blixt.trainer.combined_tree import flatten, is_collection
from blixt.trainer.config import Limit, TrainerConfig
from blixt.trainer.datamodule import DataModule
from blixt.trainer.hooks import overridden
from blixt.trainer.module import Module

Transfer = Callable[[Any, int], Any]


@dataclass(frozen=True)
class StageLoader:
    """The batches of a stage and how much of them counts.

    Attributes:
        batches: Where batches come from.
        total: How many there will be; None when nobody knows.
        cut: Whether to stop after `total` although there is more.
        loaders: The loaders in it, as the user made them.
        limits: How many batches each of them gives at most; infinite where nobody knows.
        given: What the user gave, nested as it was.
    """

    batches: Batches
    total: int | None
    cut: bool
    loaders: tuple[Any, ...] = ()
    limits: tuple[float, ...] = ()
    given: Any = None

    @property
    def ahead(self) -> bool:
        """Whether `batches.last` tells the last batch, because the data may end before `total`."""
        return isinstance(self.batches, (AheadBatches, DrawnBatches))

    def close(self) -> None:
        """End the running iterations and their workers; harmless when there are none."""
        close(self.batches)


def find_loaders(stage: str, given: Any, module: Module, datamodule: DataModule | None) -> Any:
    """What was given to fit/validate/test/predict, else what the data module or the module makes.

    Raises:
        WrongTypeError: When a loader method returns None, which is mostly a forgotten `return`.
    """
    if given is not None:
        return given
    name = f"{stage}_dataloader"
    owner: DataModule | Module = module
    if datamodule is not None and overridden(datamodule, name, DataModule):
        owner = datamodule
    elif not overridden(module, name, Module):  # also where it is set to None, to go without that loader
        return None
    made = getattr(owner, name)()
    if made is None:
        fix = f"Return a loader; [] is no data, Trainer(limit_{stage}_batches=0) goes without"
        raise WrongTypeError(f"{type(owner).__name__}({name})", None, "it returned no loader", fix)
    return made


def prepare_train(
    found: Any,
    fabric: Fabric,
    config: TrainerConfig,
    transfer: Transfer | None = None,
    *,
    allow_empty: bool = False,
    drawn: bool = False,
) -> StageLoader:
    """Make the training data ready to run.

    Args:
        found: One loader, a nested list or dict of them (drawn from together, the shorter ones again and
            again), or a `CombinedLoader`.
        fabric: The processes.
        config: Limits and the like.
        transfer: The transfer hooks; None moves batches to the device as they are.
        allow_empty: Whether some processes may have no batch at all.
        drawn: Whether the step draws its batches itself, see `takes_iterator`; they are not moved then.

    Raises:
        ConfigError: When something is no loader, or a limit means nothing for it.
    """
    loaders, arrange, mode = _take_apart(found, "max_size_cycle")
    moves = None if not drawn else _unmoved
    ready = [_resumable(loader, "train", fabric, config, transfer or moves) for loader in loaders]
    lengths = [_common_length(loader, "train", fabric, allow_empty) for loader in ready]
    limits = [_limited(config.limit_train_batches, each, "limit_train_batches") for each in lengths]
    total = _total(mode, limits)
    available = length(mode, lengths)
    cut = total is not None and total < available
    batches: Batches = ready[0]
    if arrange is not None:
        batches = CombinedBatches(ready, mode, arrange, limits, fabric.strategy.data_parallel_size)
    if available == inf or drawn:
        left = _data_left(fabric) if available == inf else None
        batches = AheadBatches(batches, total, left, any(_draws_here(each) for each in loaders))
        batches = DrawnBatches(batches, total) if drawn else batches
    return StageLoader(batches, total, cut, tuple(loaders), tuple(limits), found)


def prepare_evaluation(
    found: Any,
    stage: str,
    fabric: Fabric,
    config: TrainerConfig,
    transfer: Transfer | None = None,
    *,
    fitting: bool = False,
    allow_empty: bool = False,
) -> list[StageLoader]:
    """Make the data of "val", "test" or "predict" ready to run.

    Args:
        found: As for training; several loaders run one after the other unless a `CombinedLoader` says how.
        stage: Whose limits count.
        fabric: The processes.
        config: Limits and the like.
        transfer: The transfer hooks; None moves batches to the device as they are.
        fitting: Whether this is the validation of a fit, to which `overfit_batches` applies.
        allow_empty: Whether some processes may have no batch at all.

    Returns:
        One for each loader; for the other modes of a `CombinedLoader` one for all.
    """
    if found is None:
        return []
    loaders, arrange, mode = _take_apart(found, "sequential")
    name = f"limit_{stage}_batches"
    ready = [_resumable(loader, stage, fabric, config, transfer, fitting) for loader in loaders]
    lengths = [_own_length(loader, stage, fabric, allow_empty) for loader in ready]
    limits = [_limited(getattr(config, name), each, name) for each in lengths]
    if arrange is None or mode == "sequential":
        return [
            StageLoader(
                _in_step(batches, limit, fabric), _finite(limit), limit < each, (loader,), (limit,), loader
            )
            for batches, limit, each, loader in zip(ready, limits, lengths, loaders, strict=True)
        ]
    total = _total(mode, limits)
    combined = CombinedBatches(ready, mode, arrange, limits, fabric.strategy.data_parallel_size)
    return [StageLoader(combined, total, total is not None, tuple(loaders), tuple(limits), found)]


def as_sequence(found: Any) -> list[Any]:
    """The parts of evaluation data that run one after the other; none as an empty list."""
    if found is None:
        return []
    loaders, arrange, mode = _take_apart(found, "sequential")
    return loaders if arrange is None or mode == "sequential" else [found]


def as_given(found: Any) -> Any:
    """The loaders as the user nested them: what is in a `CombinedLoader`, anything else as it is."""
    return found.iterables if isinstance(found, CombinedLoader) else found


def prepare(
    loader: Any, stage: str, fabric: Fabric, config: TrainerConfig, transfer: Transfer | None
) -> StageLoader:
    """`prepare_train`, or `prepare_evaluation` for data that is one part."""
    if stage == "train":
        return prepare_train(loader, fabric, config, transfer)
    return prepare_evaluation(loader, stage, fabric, config, transfer, fitting=True)[0]


def reload_due(epoch: int, loaded_at: int, every: int) -> bool:
    """Whether the loaders of an epoch that was loaded at `loaded_at` have to be asked for again."""
    return every > 0 and epoch - loaded_at >= every


def transfer_hooks(module: Module, datamodule: DataModule | None, fabric: Fabric) -> Transfer | None:
    """The three transfer hooks as one function, or None when nobody overrides one of them."""
    names = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    owners: list[Any] = []
    for name in names:
        on_data = datamodule is not None and overridden(datamodule, name, DataModule)
        if on_data and overridden(module, name, Module):
            warnings.warn(
                f"Both module and data module have {name}: the data module's is used.", stacklevel=2
            )
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


# --- one loader -----------------------------------------------------------------------------------


def _take_apart(found: Any, default: Mode) -> tuple[list[Any], Callable[[list[Any]], Any] | None, Mode]:
    """The single loaders, how to arrange their batches (None for one that stands alone), and the mode."""
    if isinstance(found, CombinedLoader):
        return found.flattened, found.arrange, found.mode
    if is_collection(found):
        return *flatten(found), default
    return [found], None, default


def _resumable(
    loader: Any,
    stage: str,
    fabric: Fabric,
    config: TrainerConfig,
    transfer: Transfer | None,
    fitting: bool = True,
) -> ResumableLoader:
    _check(loader, stage)
    if config.overfit_batches and fitting and stage in ("train", "val") and isinstance(loader, DataLoader):
        loader = _in_order(cast("DataLoader[Any]", loader), stage)
    return fabric.make_loader(
        cast("Iterable[Any]", loader),
        shard=config.use_distributed_sampler,
        even=stage == "train",
        move_to_device=transfer is None,
    )


def _check(loader: Any, stage: str) -> None:
    kind = type(loader).__name__
    if isinstance(loader, (str, bytes)) or not (
        hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")
    ):
        reason = f"something of type {kind} gives no batches"
        raise ConfigError(
            f"{stage}_dataloader()", loader, reason, "Give a DataLoader, or any iterable of batches"
        )
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        warnings.warn(
            f"The {stage} data is a {kind}, which is a Dataset: each of its samples is taken for a batch. "
            "Wrap it in a DataLoader.",
            stacklevel=4,
        )
    if isinstance(loader, types.GeneratorType) and stage in ("train", "val"):
        warnings.warn(
            f"The {stage} data is a generator, which gives its batches once: later epochs will have none. "
            "Give something that can be iterated again.",
            stacklevel=4,
        )


def _in_order(loader: DataLoader[Any], stage: str) -> DataLoader[Any]:
    """The same loader without its shuffle: overfitting looks at the same few batches again and again."""
    sampler = cast("Any", loader).sampler
    batches: BatchSampler | None = cast("Any", loader).batch_sampler
    if isinstance(sampler, SequentialSampler) or not hasattr(loader.dataset, "__getitem__"):
        return loader
    warnings.warn(
        f"overfit_batches turns the shuffling of the {stage} data off, to see the same batches every epoch.",
        stacklevel=4,
    )
    ordered = SequentialSampler(cast("Any", loader.dataset))
    if batches is None:
        return with_parts(loader, sampler=ordered)
    again = BatchSampler(ordered, batches.batch_size, batches.drop_last)
    return with_parts(loader, sampler=ordered, batch_sampler=again)


def _unmoved(batch: Any, loader_index: int) -> Any:
    return batch


def _draws_here(loader: Any) -> bool:
    """Whether fetching from it can draw random numbers in this process, and not in workers."""
    return not (isinstance(loader, DataLoader) and loader.num_workers > 0)


# --- how many batches -----------------------------------------------------------------------------


def _common_length(loader: ResumableLoader, stage: str, fabric: Fabric, allow_empty: bool) -> float:
    """Batches that every process can give; infinite when one of them does not know."""
    lengths = _everywhere(loader, fabric)
    _refuse_empty(loader, lengths, stage, allow_empty)
    if len(set(lengths)) > 1 and inf not in lengths:
        warnings.warn(
            f"The processes have {min(lengths):g} to {max(lengths):g} batches of the {stage} data: an epoch "
            "is the smallest of these, so that they end together.",
            stacklevel=4,
        )
    return inf if inf in lengths else min(lengths)


def _own_length(loader: ResumableLoader, stage: str, fabric: Fabric, allow_empty: bool) -> float:
    """Batches of this process; evaluation may be uneven, unless its forward passes hold collectives."""
    lengths = _everywhere(loader, fabric)
    if len(set(lengths)) > 1 and fabric.strategy.wraps_evaluation:
        raise FabricError(
            f"The processes have {min(lengths):g} to {max(lengths):g} batches of the {stage} data. Under "
            f"{type(fabric.strategy).__name__} each forward pass needs all of them: give each process as "
            "many, or a DataLoader with a batch_size, whose samples are then divided evenly."
        )
    _refuse_empty(loader, lengths, stage, allow_empty or type(loader.loader).__name__ != "DataLoader")
    return lengths[fabric.global_rank]


def _in_step(batches: ResumableLoader, limit: float, fabric: Fabric) -> Batches:
    """Batches that all processes end together, where forward passes need that and no length tells."""
    left = _data_left(fabric) if limit == inf and fabric.strategy.wraps_evaluation else None
    return batches if left is None else AheadBatches(batches, None, left, _draws_here(batches.loader))


def _everywhere(loader: ResumableLoader, fabric: Fabric) -> list[float]:
    own = length_of(loader)
    mine = inf if own is None else own
    return all_gather_objects(mine) if fabric.world_size > 1 else [mine]


def _refuse_empty(loader: ResumableLoader, lengths: Sequence[float], stage: str, allowed: bool) -> None:
    kind = type(loader.loader).__name__
    if not any(lengths):
        drops = getattr(loader.loader, "drop_last", False)
        why = ": with drop_last=True it needs the samples of a whole one" if drops else ""
        warnings.warn(f"The {stage} data ({kind}) has no batch{why}.", stacklevel=5)
    elif not all(lengths) and not allowed:
        empty = ", ".join(str(rank) for rank, each in enumerate(lengths) if not each)
        raise FabricError(
            f"The {stage} data ({kind}) has no batch on rank(s) {empty}, while others have some. Give it "
            "more samples or smaller batches, or set "
            "allow_zero_length_dataloader_with_multiple_devices = True."
        )


def _limited(limit: Limit, available: float, name: str) -> float:
    if isinstance(limit, int):
        return min(limit, available)
    if available != inf:
        total = int(available * limit)
        if total == 0 and available > 0 and limit > 0:
            reason = f"that part of {available:g} batches is less than one"
            raise ConfigError(f"Trainer({name})", limit, reason, f"Use at least {1 / available:.3g}")
        return total
    if limit not in (0.0, 1.0):
        reason = "a part of a loader without a length is unknown"
        raise ConfigError(f"Trainer({name})", limit, reason, "Use a number of batches, e.g. 100")
    return 0 if limit == 0.0 else inf


def _total(mode: Mode, lengths: Sequence[float]) -> int | None:
    return _finite(length(mode, lengths))


def _finite(number: float) -> int | None:
    return None if number == inf else int(number)


def _data_left(fabric: Fabric) -> Callable[[bool], bool] | None:
    """Asks all processes whether each of them has one more batch."""
    return DataLeft(fabric.world_size).left if fabric.world_size > 1 else None
