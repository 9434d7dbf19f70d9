"""Stacked experts under the names by which PEFT adapts parameters that are no layer (`target_parameters`).

transformers 5 keeps a layer's experts as two parameters, `gate_up_proj` and `down_proj` of `mlp.experts`,
however they lie on disk. PEFT puts one wrapper around another for the two, so that the first one's matrices
are found under `base_layer`; its matrices for all experts are flat: `lora_A` (E * r, in), `lora_B`
(out, r * E).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.errors import AdapterError
from blixt.llm.lora.product import Product
from blixt.llm.weights.ops import Chain, Op, Same, Split, Transpose
from blixt.llm.weights.rules import Entry

WITHIN = ".base_layer"
_OURS = re.compile(r"(blocks\.\d+\.mlp\.experts)\.(gate|up|down)")
_READ_SIDEWAYS = ("llama4_text",)
"""Types whose stacks lie (E, in, out) without saying so, which PEFT reads as (E, out, in)."""


@dataclass(frozen=True)
class ExpertStack:
    """One parameter of transformers' that holds a matrix of every expert.

    Attributes:
        module: Whose parameter it is: "model.layers.0.mlp.experts".
        parameter: "gate_up_proj" or "down_proj".
        ours: The stacks of ours in it: "blocks.0.mlp.experts.gate" and up, or down.
        op: How they lie in it.
        turned: Whether its matrices are (in, out).
        sideways: Whether PEFT takes inputs for outputs.
        experts: How many.
        sizes: Outputs, of all in it together, and inputs.
    """

    module: str
    parameter: str
    ours: tuple[str, ...]
    op: Op
    turned: bool
    sideways: bool
    experts: int
    sizes: tuple[int, int]

    @property
    def name(self) -> str:
        """The parameter's whole name."""
        return f"{self.module}.{self.parameter}"

    def cut(self, a: Tensor, b: Tensor, scale: float) -> dict[str, Product]:
        """PEFT's two matrices as products for ours.

        Raises:
            AdapterError: They are of another size.
        """
        a, b = self._unfolded(a, b)
        parts = self.op.load([b.mT if self.turned else b])
        return {
            name: Product(a, part.contiguous(), scale) for name, part in zip(self.ours, parts, strict=True)
        }

    def join(self, a: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """PEFT's two matrices from `a` (E, r, in) and the `b` of ours (E, out, r): the inverse of `cut`."""
        (b,) = self.op.save(list(parts))
        b = b.mT if self.turned else b
        if self.sideways:
            a, b = b.mT, a.mT
        return a.flatten(0, 1).contiguous(), b.permute(1, 2, 0).flatten(1).contiguous()

    def _unfolded(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        wide, inputs = self.sizes
        flat = a.dim() == b.dim() == 2 and a.shape[0] == b.shape[1] and a.shape[0] % self.experts == 0
        found = (b.shape[0], a.shape[1]) if flat else (-1, -1)
        if found not in ((wide, inputs), (inputs, wide)):
            raise AdapterError(
                f"the adapter's matrices for {self.name} are {tuple(a.shape)} and {tuple(b.shape)}, which do "
                f"not fit {self.experts} experts of {wide} x {inputs}: it is for a model of another size"
            )
        stacked = a.view(self.experts, -1, a.shape[1])  # E r in
        other = b.reshape(b.shape[0], -1, self.experts).permute(2, 0, 1)  # E out r
        sideways = self.sideways if wide == inputs else found == (inputs, wide)
        return (other.mT, stacked.mT) if sideways else (stacked, other)


def stacks_of(entries: Iterable[Entry], config: ModelConfig) -> dict[str, list[ExpertStack]]:
    """The stacks of every module of experts, in the order in which PEFT wraps them."""
    found: dict[str, list[ExpertStack]] = {}
    moe = config.moe
    if moe is None:
        return found
    sideways = config.model_type in _READ_SIDEWAYS
    sizes = {"gate_up_proj": (2 * moe.d_ff, config.d), "down_proj": (config.d, moe.d_ff)}
    for entry in entries:
        match = _OURS.fullmatch(entry.ours[0])
        if match is None or match[2] == "up":
            continue
        alone = len(entry.theirs) == 1
        parameter = "down_proj" if match[2] == "down" else "gate_up_proj"
        ours, op = entry.ours, entry.op
        if not alone:  # one by one on disk: gate first, then up, in transformers' memory
            ours = (match[0],) if match[2] == "down" else (match[0], f"{match[1]}.up")
            op = Same() if match[2] == "down" else Split((moe.d_ff, moe.d_ff), 1)
        module = in_memory(entry.theirs[0].rpartition(".")[0] if alone else _container(entry.theirs[0]))
        stack = ExpertStack(module, parameter, ours, op, _turned(op), sideways, moe.experts, sizes[parameter])
        found.setdefault(module, []).append(stack)
    return {module: sorted(parts, key=lambda s: s.parameter, reverse=True) for module, parts in found.items()}


def in_memory(name: str) -> str:
    """What transformers 5 calls in memory what lies under this name on disk."""
    return name.replace(".block_sparse_moe.", ".mlp.")


def on_disk(name: str) -> str:
    """The inverse of `in_memory`, for the type that has two names."""
    return name.replace(".mlp.", ".block_sparse_moe.")


def stacked(parts: Mapping[int, Product], experts: int) -> Product:
    """One product for all experts from products of single ones; those that have none get zeros."""
    rank = max(part.a.shape[0] for part in parts.values())
    first = next(iter(parts.values()))
    a = first.a.new_zeros(experts, rank, first.a.shape[1])
    b = first.b.new_zeros(experts, first.b.shape[0], rank)
    for index, part in parts.items():
        own = part.a.shape[0]
        a[index, :own], b[index, :, :own] = part.a, part.b * (part.scale / first.scale)
    return Product(a, b, first.scale)


def wrapped(stacks: Sequence[ExpertStack], targeted: Sequence[str], depth: int, module: str) -> ExpertStack:
    """Which parameter the matrices of a module at some depth of wrappers belong to.

    Args:
        stacks: The module's.
        targeted: The `target_parameters`.
        depth: How many wrappers are around this one.
        module: Its name, for the error.

    Raises:
        AdapterError: The configuration does not name that many.
    """
    chosen = [s for s in stacks if any(f".{s.name}".endswith(f".{target}") for target in targeted)]
    if depth >= len(chosen):
        raise AdapterError(
            f"the adapter has matrices for {module} that none of its target_parameters explains: "
            f"{', '.join(targeted) or 'there are none'}"
        )
    return chosen[len(chosen) - 1 - depth]


def _turned(op: Op) -> bool:
    return any(isinstance(part, Transpose) for part in (op.ops if isinstance(op, Chain) else (op,)))


def _container(expert: str) -> str:
    """model.layers.0.mlp.experts.0.gate_proj.weight to model.layers.0.mlp.experts."""
    return re.sub(r"\.\d+\.[^.]+\.weight$", "", expert)
