"""Parts of a configuration that several families have: rope, windows, experts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from blixt.llm.config import LayerSpec, ModelConfig, MoESpec
from blixt.llm.errors import ConfigError
from blixt.llm.families.keys import Json, Keys, unsupported
from blixt.llm.families.ropes import FULL, SLIDING, Rope, only_rope, reach

CHUNKED = "chunked_attention"
PLAIN = Rope()
_NAMES = {"full": FULL, "sliding": SLIDING, "chunked": CHUNKED, "mla": FULL}


def width_of(found: Json) -> int:
    """Width of the part of a head that could be turned, from the fields read so far."""
    mla = found.get("mla")
    return mla.rope_dim if mla else found.get("head_dim") or found["d"] // found["heads"]


def specs_of(found: Json) -> list[LayerSpec]:
    """The layers' specs as far as they are read: all alike unless a part has said otherwise."""
    alike = LayerSpec(
        attn="mla" if found.get("mla") else "full", rope=found.get("rope"), mlp=found.get("mlp", "gated")
    )
    return list(found.get("layer_specs") or [alike] * found["layers"])


def one(config: ModelConfig, values: Sequence[Any], what: str) -> Any:
    """The value that all layers share, or None when there are no values.

    Raises:
        ConfigError: They differ, where a `config.json` has one key for all.
    """
    found = set(values)
    if len(found) > 1:
        raise ConfigError(
            f"ModelConfig(layer_specs): layers differ in {what} ({', '.join(map(repr, sorted(found)))}), "
            f"a config.json of model type {config.model_type!r} has one for all"
        )
    return next(iter(found), None)


@dataclass(frozen=True)
class Roped:
    """One rotary position embedding for all layers."""

    rope: Rope = PLAIN

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `rope`, and the context it is stretched to."""
        found["rope"], _ = self.rope.read(keys, width_of(found), found["context"])
        found["context"] = reach(found["rope"], found["context"])

    def write(self, config: ModelConfig) -> Json:
        """The keys of transformers 4 and 5."""
        spec = next((spec for spec in config.specs if spec.rope), config.specs[0])
        return self.rope.write(only_rope(config), config.rope_width(spec), config.context)


@dataclass(frozen=True)
class Windows:
    """Sliding windows, in all layers or as `layer_types` says.

    Attributes:
        window: The window when the file does not say; None means none.
        types: The layers' types when the file does not say, from their number and `pattern`; None when
            the family has no `layer_types`: a window is then every layer's.
        pattern: `sliding_window_pattern` when the file does not say; 0 when the family has none.
    """

    window: int | None = None
    types: Callable[[int, int], list[str]] | None = None
    pattern: int = 0

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `layer_specs`."""
        window = keys.take("sliding_window", None) if keys.has("sliding_window") else self.window
        layers = found["layers"]
        if self.types is None:
            types = [SLIDING if window else FULL] * layers
        else:
            pattern = keys.take("sliding_window_pattern", self.pattern) if self.pattern else 0
            types = keys.take("layer_types", None) or self.types(layers, pattern)
        found["layer_specs"] = tuple(
            typed(spec, kind, window)
            for spec, kind in zip(specs_of(found), check(types, layers), strict=True)
        )

    def write(self, config: ModelConfig) -> Json:
        """`sliding_window`, and `layer_types` where the family has it."""
        data: Json = {"sliding_window": window_of(config)}
        if self.types is not None:
            data["layer_types"] = types_of(config)
        elif any(spec.attn != config.specs[0].attn for spec in config.specs):
            one(config, [spec.attn for spec in config.specs], "attn")
        return data


def check(types: Any, layers: int) -> list[str]:
    """`layer_types`, one a layer and each known.

    Raises:
        ConfigError: They are not.
    """
    if len(types) != layers:
        raise unsupported(
            "layer_types", types, f"has {len(types)} entries, one for each of {layers} layers is needed"
        )
    for name in types:
        if name not in (FULL, SLIDING, CHUNKED):
            raise unsupported("layer_types", name, f"layers are {FULL}, {SLIDING} or {CHUNKED}")
    return types


def typed(spec: LayerSpec, kind: str, window: int | None) -> LayerSpec:
    """A layer of one of the `layer_types`.

    Raises:
        ConfigError: It slides, and there is no window.
    """
    if kind == FULL:
        return spec
    if not window:
        name = "sliding_window" if kind == SLIDING else "attention_chunk_size"
        raise unsupported(name, window, f"layer_types has {kind!r}, which needs it")
    attn: Literal["sliding", "chunked"] = "sliding" if kind == SLIDING else "chunked"
    return replace(spec, attn=attn, window=window)


def window_of(config: ModelConfig) -> int | None:
    """The window of all layers that have one, or None."""
    return one(config, [spec.window for spec in config.specs if spec.window], "window")


def types_of(config: ModelConfig) -> list[str]:
    """`layer_types`."""
    return [_NAMES[spec.attn] for spec in config.specs]


def every(count: int, other: str = FULL, usual: str = SLIDING) -> Callable[[int, int], list[str]]:
    """Layer types of which every `count`-th is another one."""
    return lambda layers, pattern: [
        other if (i + 1) % (pattern or count) == 0 else usual for i in range(layers)
    ]


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in some layers.

    Attributes:
        count: The key of the number of experts.
        fixed: What is the same in all models of the family.
        width: The key of an expert's inner width; "" means `intermediate_size`.
        keys: Further keys and the fields of `MoESpec` they are, with what they mean when absent.
        shared: The key of the shared expert's width, or of how many experts wide it is; "" for none.
        shared_unit: Whether `shared` counts experts.
        dense: Which layers have a plain gated MLP instead, from the file; None means no layer.
        dense_back: The keys that say so.
        top_k: `num_experts_per_tok` when the file does not say; None requires it.
        alias: Another name of `count`, which transformers 5 uses.
    """

    count: str
    fixed: Json
    width: str = "moe_intermediate_size"
    keys: tuple[tuple[str, str, Any], ...] = ()
    shared: str = ""
    shared_unit: bool = False
    dense: Callable[[Keys, int], Sequence[int]] | None = None
    dense_back: Callable[[Sequence[int], int], Json] | None = None
    top_k: int | None = None
    alias: str = ""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `moe` and `layer_specs`."""
        width = keys.take(self.width) if self.width else found["d_ff"]
        values: Json = {ours: keys.take(theirs, default) for theirs, ours, default in self.keys}
        if self.shared:
            values["shared_d_ff"] = keys.take(self.shared, 0) * (width if self.shared_unit else 1)
        top_k = keys.take("num_experts_per_tok", *([] if self.top_k is None else [self.top_k]))
        counts = [keys.take(name, None) for name in (self.count, self.alias) if name]
        count = next((count for count in counts if count is not None), None)
        if count is None:
            raise ConfigError(f"config.json lacks the key {self.count!r}")
        found["moe"] = MoESpec(experts=count, top_k=top_k, d_ff=width, **{**self.fixed, **values})
        dense = set(self.dense(keys, found["layers"])) if self.dense else set[int]()
        found["layer_specs"] = tuple(
            spec if index in dense else replace(spec, mlp="moe") for index, spec in enumerate(specs_of(found))
        )

    def write(self, config: ModelConfig) -> Json:
        """The keys of the mixture.

        Raises:
            ConfigError: The model has none.
        """
        moe = config.moe
        if moe is None:
            raise ConfigError(f"ModelConfig(moe=None): a model of type {config.model_type!r} has experts")
        data: Json = {self.count: moe.experts, "num_experts_per_tok": moe.top_k}
        if self.alias:
            data[self.alias] = moe.experts
        if self.width:
            data[self.width] = moe.d_ff
        data |= {theirs: getattr(moe, ours) for theirs, ours, _ in self.keys}
        if self.shared:
            data[self.shared] = moe.shared_d_ff // (moe.d_ff if self.shared_unit else 1)
        if self.dense_back:
            dense = [index for index, spec in enumerate(config.specs) if spec.mlp != "moe"]
            data |= self.dense_back(dense, config.layers)
        return data
