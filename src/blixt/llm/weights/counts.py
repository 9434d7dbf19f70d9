"""Counts of a configuration, held against the tensors that are there before a model of that size is made."""

import re
from collections.abc import Collection

from blixt.llm.errors import WeightsError
from blixt.llm.weights.rules import Rule, RuleTable
from blixt.llm.weights.source import Source

_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")  # a layer's number is the first in a tensor's name


def check_layers(layers: int, source: Source) -> None:
    """Refuse more layers than the tensors' names are numbered up to.

    A damaged count would otherwise cost the time and memory of a model of that size before the first missing
    tensor is noticed.

    Raises:
        WeightsError: There are more.
    """
    there = _numbered(source.infos)
    if layers > there:
        raise WeightsError(
            f"{source.where} holds tensors of {there} layers, its configuration asks for {layers}: "
            "one of them is damaged or of another model"
        )


def check_experts(rules: RuleTable, source: Source) -> None:
    """Refuse more experts, kept as tensors of their own, than there are tensors.

    Raises:
        WeightsError: There are more.
    """
    apart = max((rule.experts for rule in rules if isinstance(rule, Rule)), default=0)
    if apart > len(source.infos):
        raise WeightsError(
            f"{source.where} holds {len(source.infos)} tensors, its configuration asks for {apart} experts "
            "a layer: one of them is damaged or of another model"
        )


def _numbered(names: Collection[str]) -> int:
    found = (_NUMBER.search(name) for name in names)
    return 1 + max((int(number[1]) for number in found if number), default=-1)
