"""How a slot is made, told to other ranks and kept in checkpoints."""

from typing import Any

from torch import nn

from blixt.trainer.slots import Options, Slot


def make_slot(key: tuple[str, int, str], suffix: str, options: Options, given: tuple[Any, ...]) -> Slot:
    """A slot whose names follow from its levels: both fork into name_step and name_epoch."""
    bare = key[2] + suffix
    if options.on_step and options.on_epoch:
        return Slot(key, f"{key[2]}_step{suffix}", f"{key[2]}_epoch{suffix}", bare, options, given)
    return Slot(key, bare, bare, bare, options, given)


def spec_of(slot: Slot) -> dict[str, Any]:
    """Everything about a slot but its numbers, as plain values: for checkpoints and other ranks."""
    options = slot.options
    return {
        "suffix": slot.bare_key.removeprefix(slot.key[2]),
        "attribute": slot.attribute,
        "flags": [options.prog_bar, options.logger, options.on_step, options.on_epoch, options.enable_graph],
        "reduce_fx": options.reduce_fx,
        "sync_dist": options.sync_dist,
        "rank_zero_only": options.rank_zero_only,
    }


def restored_slot(key: tuple[str, int, str], spec: dict[str, Any], module: nn.Module | None) -> Slot:
    """A slot from its spec; the first `log` into it sets its options anew."""
    prog_bar, logger, on_step, on_epoch, graph = spec["flags"]
    options = Options(
        prog_bar,
        logger,
        on_step,
        on_epoch,
        spec["reduce_fx"],
        graph,
        spec["sync_dist"],
        None,
        spec["rank_zero_only"],
    )
    slot = make_slot(key, spec["suffix"], options, ())
    slot.attribute = spec["attribute"]
    if slot.attribute is not None and module is not None:
        slot.metric = module.get_submodule(slot.attribute)
    return slot
