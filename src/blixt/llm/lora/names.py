"""Adapters under Hugging Face's module names: layers that lie fused on disk are joined and cut here."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import AdapterError
from blixt.llm.lora.product import Product, side_by_side
from blixt.llm.lora.stacks import on_disk, stacks_of
from blixt.llm.weights.ops import Chain, Op, Transpose
from blixt.llm.weights.rules import EMBED, HEAD, Alias, Entry, Rule, RuleTable, entries

WEIGHT = ".weight"


class Names:
    """Which of our layers are which module of transformers', for one model.

    Args:
        config: The model's.
        rules: Its family's.

    Attributes:
        experts: How many a layer has.
        stacks: The parameters that hold every expert's matrices, by their module.
        shared_head: Their name of an output layer that is the embedding here; None when it is not.
    """

    def __init__(self, config: ModelConfig, rules: RuleTable) -> None:
        self.entries = list(entries(rules, config))
        self.experts = 0 if config.moe is None else config.moe.experts
        self.stacks = stacks_of(self.entries, config)
        heads = [rule.theirs for rule in rules if isinstance(rule, Rule) and rule.ours == HEAD]
        self.shared_head = str(heads[0]) if config.tie and heads else None
        self.aliases = [rule for rule in rules if isinstance(rule, Alias)]
        self._of_ours = {name: entry for entry in self.entries for name in entry.ours}
        self._of_theirs = {name: entry for entry in self.entries for name in entry.theirs}

    def theirs(self) -> Iterator[tuple[str, Entry]]:
        """Every module of theirs whose weight becomes whole linear layers of ours."""
        for entry in self.entries:
            if len(entry.theirs) == 1 and all(name.endswith(WEIGHT) for name in (*entry.ours, *entry.theirs)):
                yield entry.theirs[0].removesuffix(WEIGHT), entry

    def check_shared(self, weights: Mapping[str, Tensor], head: Tensor | None) -> None:
        """Refuse an adapter that trains only one of an embedding and an output layer that are one here.

        Raises:
            AdapterError: They differ, or only one is there.
        """
        embed = weights.get(EMBED)
        if self.shared_head is None or (embed is None and head is None):
            return
        if embed is None or head is None or not torch.equal(embed, head):
            raise AdapterError(
                "the adapter trains embedding and output layer apart, but this model has one matrix for both"
            )

    def entry_of(self, parameter: str) -> Entry:
        """The entry that a parameter of ours belongs to.

        Raises:
            AdapterError: It has no name on disk.
        """
        if parameter not in self._of_ours:
            raise AdapterError(
                f"{parameter} has no name in checkpoints of this model type, so it cannot be saved"
            )
        return self._of_ours[parameter]

    def find(self, parameter: str) -> Entry:
        """The entry of a parameter of theirs, under any name that the rules know it by.

        Raises:
            AdapterError: The model has none of that name.
        """
        fitting = [alias for alias in self.aliases if parameter.startswith(alias.old)]
        others = [a.now + parameter.removeprefix(a.old) for a in fitting]
        for reading in [parameter, *others, on_disk(parameter)]:
            if reading in self._of_theirs:
                return self._of_theirs[reading]
        raise AdapterError(
            f"the adapter is for {parameter.removesuffix(WEIGHT)}, which this model does not have"
        )


def names_of(config: ModelConfig) -> Names:
    """The names of a model of this configuration, by its family's rules."""
    from blixt.llm.families import family_of

    return Names(config, family_of(config.model_type).rules(config))


def cut(entry: Entry, product: Product) -> dict[str, Product]:
    """A product for a module of theirs as products for the layers of ours that it is made of.

    Raises:
        AdapterError: The module is no linear layer of ours, such as a stack of experts.
    """
    if len(entry.theirs) != 1 or not all(name.endswith(WEIGHT) for name in entry.ours):
        raise AdapterError(f"an adapter on {entry.theirs[0]} is not supported: only linear layers have them")
    parts = _load_rows(entry.op, product.b)
    lengths: Sequence[Tensor | None] = [None] * len(parts)
    if product.magnitude is not None:
        lengths = [part.flatten() for part in _load_rows(entry.op, product.magnitude.unsqueeze(1))]
    return {
        name.removesuffix(WEIGHT): Product(product.a, b, product.scale, length)
        for name, b, length in zip(entry.ours, parts, lengths, strict=True)
    }


def join(entry: Entry, products: Mapping[str, Product], lengths: Mapping[str, Tensor]) -> Product:
    """The inverse of `cut`: one product for the module on disk.

    Parts that share their `a` keep it; others stand side by side, with rank the sum of theirs, and parts
    without an adapter get zeros.

    Args:
        entry: The module's.
        products: By the names of our layers, at least one of the entry's.
        lengths: For DoRA, row lengths of the weights of layers that have no adapter.
    """
    names = [name.removesuffix(WEIGHT) for name in entry.ours]
    rows = {name: product.b.shape[0] for name, product in products.items()}
    rows |= {name: length.numel() for name, length in lengths.items() if name not in rows}
    a, parts, scale = side_by_side([products.get(name) for name in names], [rows[name] for name in names])
    magnitude = None
    if any(product.magnitude is not None for product in products.values()):
        own = {name: product.magnitude for name, product in products.items() if product.magnitude is not None}
        magnitude = _save_rows(entry.op, [(own.get(n, lengths.get(n, parts[0]))).unsqueeze(1) for n in names])
    return Product(a, _save_rows(entry.op, parts), scale, None if magnitude is None else magnitude.flatten())


def _load_rows(op: Op, rows: Tensor) -> list[Tensor]:
    """What an operation on weights (out, in) does to rows (out, anything)."""
    return [part.contiguous() for part in op.load([_turned(op, rows)])]


def _save_rows(op: Op, parts: list[Tensor]) -> Tensor:
    (joined,) = op.save(parts)
    return _turned(op, joined).contiguous()


def _turned(op: Op, rows: Tensor) -> Tensor:
    """A weight that lies transposed on disk has its rows in columns there; an adapter's have not."""
    ops = op.ops if isinstance(op, Chain) else (op,)
    return rows.T if sum(isinstance(part, Transpose) for part in ops) % 2 else rows
