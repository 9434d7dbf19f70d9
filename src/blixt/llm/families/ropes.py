"""Rotary positions between `config.json` and `RopeSpec`, in the forms of transformers 4 and 5.

Version 4 has `rope_theta`, `rope_scaling` and `partial_rotary_factor` beside one another, version 5 one
`rope_parameters`, or one for each kind of layer. Both are read and, so that either version loads what was
saved, both are written.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from blixt.llm.config import ModelConfig, RopeSpec
from blixt.llm.errors import ConfigError
from blixt.llm.families.keys import Json, Keys, unsupported

FULL, SLIDING = "full_attention", "sliding_attention"

_ATTRIBUTES = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "truncate": "truncate",
    "attention_factor": "attention_factor",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "short_factor": "short_factors",
    "long_factor": "long_factors",
}
_OF_KIND = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "beta_fast", "beta_slow", "truncate", "attention_factor", "mscale", "mscale_all_dim"),
    "longrope": ("factor", "attention_factor", "short_factor", "long_factor"),
    "proportional": ("factor",),
}
_KNOWN = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
_OLD_NAMES = {"su": "longrope"}
_Kind = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional"]


@dataclass(frozen=True)
class Rope:
    """What a family's rotary position embedding is when `config.json` does not say.

    Attributes:
        base: `rope_theta`.
        partial: Share of a head that is turned.
        interleaved: See `RopeSpec`.
        reverse: See `RopeSpec`.
        extra: Further keys among the rope parameters, which the family itself reads.
        base_key: What version 4 calls `rope_theta` in this family.
        partial_key: What version 4 calls `partial_rotary_factor`.
        bare: Version 4 checks that the scaling has its own keys only, with `type` for `rope_type` (Phi-3).
    """

    base: float = 10_000.0
    partial: float = 1.0
    interleaved: bool = False
    reverse: bool = False
    extra: tuple[str, ...] = ()
    base_key: str = "rope_theta"
    partial_key: str = "partial_rotary_factor"
    bare: bool = False

    def read(self, keys: Keys, width: int, context: int) -> tuple[RopeSpec, Json]:
        """One spec for all layers, and the parameters it was read from.

        Args:
            keys: Where to read.
            width: Of the head's part that could be turned.
            context: `max_position_embeddings`.

        Raises:
            ConfigError: A parameter that `RopeSpec` does not have.
        """
        scaling, parameters = keys.take("rope_scaling", {}), keys.take("rope_parameters", {})
        found: Json = {**(scaling or parameters)}
        for name, old, default in (
            ("rope_theta", self.base_key, self.base),
            ("partial_rotary_factor", self.partial_key, self.partial),
        ):
            given = (
                found.get(name),
                keys.take(old, None),
                keys.take(name, None),
                parameters.get(name),
                default,
            )
            found[name] = next(value for value in given if value is not None)
        original = keys.take("original_max_position_embeddings", None)
        if original is not None:
            found["original_max_position_embeddings"] = original
        return self.spec(found, width, context), found

    def spec(self, found: Json, width: int, context: int) -> RopeSpec:
        """One set of parameters, in the form of version 5, as a spec."""
        kind = found.get("rope_type") or found.get("type") or "default"
        kind = _OLD_NAMES.get(kind, kind)
        if kind not in _OF_KIND:
            raise unsupported("rope_parameters.rope_type", kind, f"known are {', '.join(_OF_KIND)}")
        for name, value in found.items():
            if (
                name not in _KNOWN
                and name not in _ATTRIBUTES
                and name not in self.extra
                and value is not None
            ):
                raise unsupported(f"rope_parameters.{name}", value, "not known of rotary positions")
        given: Json = {
            _ATTRIBUTES[name]: tuple(found[name]) if isinstance(found[name], list) else found[name]
            for name in _OF_KIND[kind]
            if found.get(name) is not None
        }
        original = context if kind == "dynamic" else found.get("original_max_position_embeddings") or context
        if kind in ("longrope", "yarn"):
            given.setdefault("factor", max(1.0, context / original))
        if kind in ("linear", "dynamic", "llama3") and "factor" not in given:
            raise ConfigError(f"config.json lacks the key 'rope_parameters.factor', which {kind!r} needs")
        partial = found.get("partial_rotary_factor", self.partial)
        return RopeSpec(
            kind=cast("_Kind", kind),
            base=float(found.get("rope_theta") or self.base),
            dim=0 if partial == 1 else int(width * partial),
            interleaved=self.interleaved,
            reverse=self.reverse,
            original_context=original if kind in ("dynamic", "llama3", "yarn", "longrope") else 0,
            **given,
        )

    def write(self, spec: RopeSpec, width: int, context: int, extra: Json | None = None) -> Json:
        """The keys of both versions for one spec."""
        parameters = {**parameters_of(spec, width, context), **(extra or {})}
        partial = parameters.get("partial_rotary_factor", 1.0)
        scaling: Any = {
            k: v for k, v in parameters.items() if k not in ("rope_theta", "partial_rotary_factor")
        }
        data: Json = {self.base_key: spec.base, "rope_parameters": parameters}
        if spec.kind == "dynamic":
            data["max_position_embeddings"] = spec.original_context
        if partial != 1 or self.partial != 1:
            data[self.partial_key] = parameters["partial_rotary_factor"] = partial
        if self.bare and "original_max_position_embeddings" in scaling:
            data["original_max_position_embeddings"] = scaling.pop("original_max_position_embeddings")
            scaling["type"] = scaling.pop("rope_type")
        data["rope_scaling"] = scaling if spec.kind != "default" or extra else None
        return data


def parameters_of(spec: RopeSpec, width: int, context: int) -> Json:
    """One spec in the form of version 5."""
    plain = RopeSpec()
    found: Json = {"rope_type": spec.kind, "rope_theta": spec.base}
    for name in _OF_KIND[spec.kind]:
        value = getattr(spec, _ATTRIBUTES[name])
        if value != getattr(plain, _ATTRIBUTES[name]) or name == "factor":
            found[name] = list(cast("tuple[float, ...]", value)) if isinstance(value, tuple) else value
    if spec.kind in ("llama3", "yarn", "longrope"):
        found["original_max_position_embeddings"] = spec.original_context
    if spec.kind == "longrope" and spec.factor == max(1.0, context / spec.original_context):
        del found["factor"]
    if spec.kind == "llama3":
        found.update(low_freq_factor=spec.low_freq_factor, high_freq_factor=spec.high_freq_factor)
    if spec.dim not in (0, width):
        found["partial_rotary_factor"] = spec.dim / width
    return found


def reach(spec: RopeSpec, context: int) -> int:
    """The longest sequence a rope is stretched for; `max_position_embeddings` may be that before."""
    stretched = int(spec.factor * spec.original_context) if spec.kind in ("dynamic", "yarn") else 0
    return max(context, stretched)


def only_rope(config: ModelConfig) -> RopeSpec:
    """The spec of the layers that turn at all, which must be one; plain where none does.

    Raises:
        ConfigError: Layers differ where the family's config.json has one set of parameters.
    """
    found = {spec.rope for spec in config.specs if spec.rope is not None}
    if len(found) > 1:
        raise ConfigError(
            f"ModelConfig(layer_specs): layers turn by {len(found)} different RopeSpecs, "
            f"a config.json of {config.model_type!r} can express one"
        )
    return next(iter(found)) if found else RopeSpec(base=config.rope_base)


def resolved(spec: RopeSpec, width: int) -> RopeSpec:
    """The spec with its `dim` filled in."""
    return spec if spec.dim else replace(spec, dim=width)
