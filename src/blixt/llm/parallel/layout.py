"""Which dimension of each parameter tensor-parallel ranks divide, by the parameter's own name.

One pure function decides; the plan of a model, and whoever cuts a checkpoint into slices, follow it.
"""

import re
from dataclasses import dataclass

from blixt.llm.config import ModelConfig
from blixt.llm.errors import RecipeError

_LAYER = re.compile(r"blocks\.(\d+)\.(.+)\.(\w+)|blocks\.(\d+)\.(attn)\.(sinks)")

_ATTENTION = {"attn.q": 0, "attn.k": 0, "attn.v": 0, "attn.q_b": 0, "attn.kv_b": 0, "attn.out": 1}
_MLP = {"mlp.gate": 0, "mlp.up": 0, "mlp.down": 1}
_SHARED = {"mlp.shared.gate": 0, "mlp.shared.up": 0, "mlp.shared.down": 1}
_EXPERTS = {"gate": 1, "up": 1, "down": 2, "gate_bias": 1, "up_bias": 1}


@dataclass(frozen=True)
class Layout:
    """How the parameters of one model lie on `size` tensor-parallel ranks.

    Queries, keys, values and the first layers of MLPs are divided by their outputs, the layers after them by
    their inputs (Megatron-LM, Shoeybi et al. 2019, arXiv:1909.08053), experts inside of each; embedding and
    output layer by the vocabulary, unless they are one. What does not divide evenly stays whole.

    Attributes:
        config: The model's.
        size: Number of ranks.
    """

    config: ModelConfig
    size: int

    def dim(self, name: str) -> int | None:
        """The dimension of the parameter that is divided; None keeps it whole on every rank."""
        if name in ("embed.weight", "head.weight", "head.bias"):
            return None if self.config.tie or self.config.vocab % self.size else 0
        layer = _LAYER.fullmatch(name)
        if layer is None:
            return None
        index, module, leaf = int(layer[1] or layer[4]), layer[2] or layer[5], layer[3] or layer[6]
        if module.startswith("attn"):
            return self._attention(module, leaf) if self.divides_attention(index) else None
        if module in _SHARED:
            return _of_linear(_SHARED[module], leaf) if self.divides_shared else None
        if not self.divides_mlp(index):
            return None
        if module == "mlp.experts":
            return _EXPERTS.get(leaf)
        return _of_linear(_MLP[module], leaf) if module in _MLP else None

    def partial(self, name: str) -> bool:
        """Whether it is whole but serves divided heads or experts: ranks find parts of its gradient."""
        layer = _LAYER.fullmatch(name)
        if layer is None or self.dim(name) is not None:
            return False
        index, module, leaf = int(layer[1] or layer[4]), layer[2] or layer[5], layer[3] or layer[6]
        if module in ("attn.q_norm", "attn.k_norm", "attn.kv_a_norm"):
            return self.divides_attention(index)
        return module == "mlp.experts" and leaf == "down_bias" and self.divides_mlp(index)

    @property
    def divides_shared(self) -> bool:
        """Whether the shared expert divides evenly."""
        moe = self.config.moe
        return moe is not None and moe.shared_d_ff % self.size == 0

    def divides_attention(self, layer: int) -> bool:
        """Whether heads divide evenly; a norm over all of them, or value embeddings, keep them whole."""
        spec = self.config.specs[layer]
        if spec.value_embed or (self.config.qk_norm == "full" and spec.qk_norm):
            return False
        groups = self.config.heads if spec.attn == "mla" else self.config.kv_heads
        return self.config.heads % self.size == 0 and groups % self.size == 0

    def divides_mlp(self, layer: int) -> bool:
        """Whether the inner width of the layer's MLP or experts divides evenly."""
        spec, moe = self.config.specs[layer], self.config.moe
        width = moe.d_ff if spec.mlp == "moe" and moe is not None else spec.d_ff
        return width % self.size == 0

    def check(self) -> None:
        """Refuse a size that would divide nothing.

        Raises:
            RecipeError: With the numbers that do not divide.
        """
        layers = range(self.config.layers)
        if not any(self.divides_attention(i) or self.divides_mlp(i) for i in layers):
            raise RecipeError(
                f"parallel.tp={self.size} divides neither heads={self.config.heads} with "
                f"kv_heads={self.config.kv_heads} nor d_ff={self.config.d_ff}: choose a divisor of them"
            )

    def _attention(self, module: str, leaf: str) -> int | None:
        if leaf == "sinks":
            return 0
        if module in ("attn.q_norm", "attn.k_norm"):
            return 0 if self.config.qk_norm == "per_head" else None
        return _of_linear(_ATTENTION[module], leaf) if module in _ATTENTION else None


def _of_linear(dim: int, leaf: str) -> int | None:
    """A bias belongs to the outputs; where the inputs are divided it is added once, whole."""
    if leaf == "bias":
        return 0 if dim == 0 else None
    return dim
