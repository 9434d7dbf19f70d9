"""Rules between the names and layouts on disk and a model's own: one table, read both ways.

A family says once how its tensors are called and laid out. Loading, saving, tensor-parallel slices,
conversion and validation all read that table, so what can be read can be written back, as a test asks:
`invert(rules, apply(rules, tensors, config), config) == tensors`.

`{i}` in a name stands for a layer, `{e}` for an expert:

    Rule("embed.weight", "model.embed_tokens.weight")
    Rule("blocks.{i}.attn.out.weight", "model.layers.{i}.self_attn.o_proj.weight")
    Rule(
        ("blocks.{i}.attn.q.weight", "blocks.{i}.attn.k.weight", "blocks.{i}.attn.v.weight"),
        "model.layers.{i}.self_attn.qkv_proj.weight",
        Split((1024, 256, 256)),
    )
    Rule("blocks.{i}.mlp.experts.up", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Stack(), experts=8)
"""

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import WeightsError
from blixt.llm.weights.ops import (
    Add,
    Alternate,
    Chain,
    Op,
    Pairs,
    Reshape,
    Same,
    Split,
    SplitGroups,
    Stack,
    Transpose,
)

__all__ = [
    "Add",
    "Alias",
    "Alternate",
    "Chain",
    "Entry",
    "Op",
    "Pairs",
    "Reshape",
    "Rule",
    "RuleTable",
    "Same",
    "Skip",
    "Split",
    "SplitGroups",
    "Stack",
    "Transpose",
    "apply",
    "invert",
]

HEAD = "head.weight"
EMBED = "embed.weight"


@dataclass(frozen=True)
class Rule:
    """Some tensors of the model, the tensors on disk they are made from, and how.

    Attributes:
        ours: Names in the model, one or several, with `{i}` for the layer.
        theirs: Names on disk, one or several, with `{i}` and, for experts, `{e}`.
        op: From theirs to ours and back.
        layers: The layers it is for; None means all. (Llama 4 mixes dense and expert layers.)
        experts: How many values `{e}` takes.
    """

    ours: str | tuple[str, ...]
    theirs: str | tuple[str, ...]
    op: Op = field(default_factory=Same)
    layers: Sequence[int] | None = None
    experts: int = 0


@dataclass(frozen=True)
class Skip:
    """Tensors on disk that a reader passes over: buffers of old versions, vision towers, draft heads.

    Attributes:
        pattern: A regular expression for the whole name, such as `r".*\\.rotary_emb\\.inv_freq"`.
    """

    pattern: str


@dataclass(frozen=True)
class Alias:
    """Another beginning that names on disk may have: read as if they began with `now`.

    Attributes:
        old: What they begin with, such as `"language_model.model."`; "" for names that lack the beginning.
        now: What the rules say, such as `"model."`.
    """

    old: str
    now: str


RuleTable = Sequence[Rule | Skip | Alias]


@dataclass(frozen=True)
class Entry:
    """A rule for one layer: plain names, nothing left to fill in."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    op: Op

    def load(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Make this entry's tensors of the model.

        Raises:
            WeightsError: A tensor on disk has a shape that the layout cannot have.
        """
        try:
            made = self.op.load(list(tensors))
        except (ValueError, RuntimeError, IndexError) as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors[:3])
            reason = str(error).splitlines()[0]
            raise WeightsError(
                f"{self.theirs[0]} of shape {shapes} cannot become {self.ours[0]} by {self.op}: {reason}"
            ) from None
        if len(made) != len(self.ours):
            raise WeightsError(f"the rule for {self.ours[0]} makes {len(made)} tensors of {len(self.ours)}")
        return made

    def save(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Make this entry's tensors on disk."""
        return self.op.save(list(tensors))


def entries(rules: RuleTable, config: ModelConfig) -> Iterator[Entry]:
    """Every rule for every layer, in the order of the table's rules within a layer, layer by layer.

    A model with tied embeddings has no output layer of its own: the rule for `head.weight` is left out.
    """
    plain = [rule for rule in rules if isinstance(rule, Rule)]
    if config.tie:
        plain = [rule for rule in plain if rule.ours != HEAD]
    yield from (_entry(rule, None) for rule in plain if not _is_layered(rule))
    layered = [(rule, _members(rule, config.layers)) for rule in plain if _is_layered(rule)]
    for layer in range(config.layers):
        yield from (_entry(rule, layer) for rule, members in layered if layer in members)


def canonical_names(names: Collection[str], rules: RuleTable, config: ModelConfig) -> dict[str, str]:
    """The rules' name of every tensor on disk to the name it really has, without those to skip."""
    aliases = sorted((rule for rule in rules if isinstance(rule, Alias)), key=lambda alias: -len(alias.old))
    skipped = [re.compile(rule.pattern) for rule in rules if isinstance(rule, Skip)]
    known = {name for entry in entries(rules, config) for name in entry.theirs}
    unwanted = set(_on_disk(HEAD, rules)) if config.tie else set[str]()
    found: dict[str, str] = {}
    for name in names:
        readings = [
            name,
            *(alias.now + name[len(alias.old) :] for alias in aliases if name.startswith(alias.old)),
        ]
        if any(reading in known for reading in readings):
            found[next(reading for reading in readings if reading in known)] = name
        elif not any(r in unwanted or any(p.fullmatch(r) for p in skipped) for r in readings):
            found[name] = name
    if config.tie:
        _embedding_from_head(found, names, rules)
    return found


def apply(rules: RuleTable, tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The model's tensors, by its own names, from those on disk.

    Args:
        rules: The family's table.
        tensors: What is on disk, by name.
        config: The model's.

    Raises:
        WeightsError: A tensor is missing, unknown, or has an impossible shape.
    """
    names = canonical_names(tensors, rules, config)
    made: dict[str, Tensor] = {}
    used: set[str] = set()
    for entry in entries(rules, config):
        check_present(entry.theirs, names, "the checkpoint")
        used.update(entry.theirs)
        found = entry.load([tensors[names[name]] for name in entry.theirs])
        made.update(zip(entry.ours, found, strict=True))
    check_surplus(names.keys() - used, "the checkpoint")
    return made


def invert(rules: RuleTable, tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors on disk, by their names, from the model's: the inverse of `apply`.

    Raises:
        WeightsError: The model lacks a tensor that the rules name.
    """
    made: dict[str, Tensor] = {}
    for entry in entries(rules, config):
        check_present(entry.ours, tensors, "the model")
        made.update(zip(entry.theirs, entry.save([tensors[name] for name in entry.ours]), strict=True))
    return made


def check_present(names: Iterable[str], found: Container[str], where: str) -> None:
    """Raise a WeightsError that names the first tensor that is not there."""
    missing = [name for name in names if name not in found]
    if missing:
        raise WeightsError(f"{where} lacks the tensor {missing[0]}{_and_more(missing)} of this config")


def check_surplus(surplus: Iterable[str], where: str) -> None:
    """Raise a WeightsError that names the first tensor nobody asked for."""
    names = sorted(surplus)
    if names:
        raise WeightsError(
            f"{where} holds the tensor {names[0]}{_and_more(names)}, which this config has no place for"
        )


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _members(rule: Rule, layers: int) -> Container[int]:
    return range(layers) if rule.layers is None else frozenset(rule.layers)


def _is_layered(rule: Rule) -> bool:
    return any("{i}" in name for name in _tuple(rule.ours))


def _entry(rule: Rule, layer: int | None) -> Entry:
    def fill(name: str) -> str:
        return name if layer is None else name.replace("{i}", str(layer))

    theirs: list[str] = []
    for name in map(fill, _tuple(rule.theirs)):
        if "{e}" in name:
            theirs += [name.replace("{e}", str(expert)) for expert in range(rule.experts)]
        else:
            theirs.append(name)
    return Entry(tuple(map(fill, _tuple(rule.ours))), tuple(theirs), rule.op)


def _on_disk(ours: str, rules: RuleTable) -> list[str]:
    found = [_tuple(rule.theirs) for rule in rules if isinstance(rule, Rule) and rule.ours == ours]
    return list(found[0]) if found else []


def _embedding_from_head(found: dict[str, str], names: Container[str], rules: RuleTable) -> None:
    """Some writers keep the shared matrix under the head's name only."""
    embed, head = _on_disk(EMBED, rules), _on_disk(HEAD, rules)
    if len(embed) == len(head) == 1 and embed[0] not in found and head[0] in names:
        found[embed[0]] = head[0]
