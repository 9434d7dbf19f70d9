"""What a family is: how its `config.json` becomes a `ModelConfig` and back, and its weight rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, get_type_hints

from blixt.llm.config import LayerSpec, ModelConfig, RopeSpec, check_layers
from blixt.llm.errors import ConfigError
from blixt.llm.families.keys import Json, Keys, unsupported
from blixt.llm.specs import number_fits
from blixt.llm.weights.rules import RuleTable

_KINDS = get_type_hints(ModelConfig)

REQUIRED = object()
"""The default of a key that must be there."""


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Key:
    """One key of a `config.json` that is one field of `ModelConfig`.

    Attributes:
        theirs: The key.
        ours: The field.
        default: What the key means when it is absent; `REQUIRED` refuses that.
        null: What it means when it is null; `REQUIRED` takes the default.
        load: From the key's value to the field's.
        save: Back.
    """

    theirs: str
    ours: str
    default: Any = REQUIRED
    null: Any = REQUIRED
    load: Callable[[Any], Any] = _same
    save: Callable[[Any], Any] = _same

    def read(self, keys: Keys) -> Any:
        """The field's value.

        Raises:
            ConfigError: A required key is missing.
        """
        default = self.null if keys.has(self.theirs) and self.null is not REQUIRED else self.default
        return self.load(keys.take(self.theirs) if default is REQUIRED else keys.take(self.theirs, default))

    def checked(self, keys: Keys) -> Any:
        """The field's value, of the field's kind of number.

        Raises:
            ConfigError: A required key is missing, or holds another kind of value.
        """
        value = self.read(keys)
        fits, what = number_fits(value, _KINDS.get(self.ours))
        if not fits:
            raise unsupported(self.theirs, value, f"must be {what}")
        return value


class Part(Protocol):
    """What does not map key by key: rope, windows, experts. Parts read one after another."""

    def read(self, keys: Keys, found: Json) -> None:
        """Read keys and fill in `ModelConfig`'s fields, given those read so far."""
        ...

    def write(self, config: ModelConfig) -> Json:
        """The keys that `read` reads."""
        ...


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    Attributes:
        model_type: As in `config.json`.
        architecture: The name of transformers' class, which `config.json` lists.
        keys: What maps key by key.
        rules: Weight rules of a model with this config.
        parts: What does not map key by key.
        fixed: Fields that are the same in all models of the family.
        expects: Keys that may say one thing only, with what that is.
    """

    model_type: str
    architecture: str
    keys: tuple[Key, ...]
    rules: Callable[[ModelConfig], RuleTable]
    parts: tuple[Part, ...] = ()
    fixed: Json = field(default_factory=dict[str, Any])
    expects: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])

    def read(self, data: Json) -> ModelConfig:
        """The configuration that a parsed `config.json` of this family describes.

        Raises:
            ConfigError: A key is missing, or says what this decoder does not have, or is not known.
        """
        keys = Keys(data)
        found: Json = dict(self.fixed)
        found |= {key.ours: key.checked(keys) for key in self.keys}
        check_layers(found["layers"])
        found["kv_heads"] = found.get("kv_heads") or found["heads"]
        for part in self.parts:
            part.read(keys, found)
        for name, allowed in self.expects.items():
            keys.expect(name, *allowed)
        keys.finish()
        return ModelConfig(model_type=self.model_type, **_simplest(found))

    def write(self, config: ModelConfig) -> Json:
        """The `config.json` of a configuration, in a form that transformers 4 and 5 both read.

        Raises:
            ConfigError: The family's `config.json` has no way to say a field of it.
        """
        data: Json = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "pad_token_id": None,  # else transformers takes the family's, which a smaller vocabulary lacks
        }
        data |= {key.theirs: key.save(getattr(config, key.ours)) for key in self.keys}
        for part in self.parts:
            data |= part.write(config)
        read = _effect(self.read(data))
        for name, value in _effect(replace(config, model_type=self.model_type)).items():
            if read[name] != value:
                raise ConfigError(
                    f"ModelConfig({name}={_short(value)}): a config.json of model type {self.model_type!r} "
                    f"cannot say this, only {_short(read[name])}; choose another model_type"
                )
        return data


def _simplest(found: Json) -> Json:
    """The fields without layers' specs or a rope that say no more than the defaults do."""
    rope, specs = found.pop("rope", None), found.pop("layer_specs", ())
    attn, mlp = (
        "mla" if found.get("mla") else "full",
        "moe" if found.get("moe") else found.get("mlp", "gated"),
    )
    if specs and any(spec != LayerSpec(attn=attn, rope=rope, mlp=mlp) for spec in specs):
        return {**found, "layer_specs": specs}
    if rope is not None and rope == RopeSpec(base=rope.base):
        return {**found, "rope_base": rope.base}
    return {**found, "rope": rope}


def _effect(config: ModelConfig) -> Json:
    """What a configuration does, however it was written down: the layers' specs stand for what fills them."""
    unused = {"layer_specs", "rope", "rope_base", "mlp", "query_scale"}
    effect = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in unused}
    return {**effect, "specs": config.specs}


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else shown[:117] + "..."


ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}
"""transformers' names of activations and ours."""


def activation(theirs: str = "hidden_act", default: str = "silu", tanh: str = "gelu_pytorch_tanh") -> Key:
    """The key of the MLP's activation; `tanh` is how the family spells the tanh form of GELU."""

    def load(name: str) -> str:
        if name not in ACTIVATIONS:
            raise unsupported(theirs, name, f"known are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]

    return Key(theirs, "act", default, load=load, save=lambda act: tanh if act == "gelu_tanh" else act)


def _eos_back(eos: tuple[int, ...]) -> Any:
    return eos[0] if len(eos) == 1 else list(eos) or None


def sizes(
    eps: str = "rms_norm_eps", epsilon: float = 1e-6, tie: bool = False, **defaults: Any
) -> tuple[Key, ...]:
    """The keys that nearly all families share.

    Args:
        eps: The key of the norms' epsilon.
        epsilon: Its default.
        tie: Whether embeddings are shared when the file does not say.
        defaults: Of other keys, where transformers has one that published files rely on.
    """

    def key(theirs: str, ours: str) -> Key:
        return Key(theirs, ours, defaults.get(theirs, REQUIRED))

    return (
        key("vocab_size", "vocab"),
        key("hidden_size", "d"),
        key("num_hidden_layers", "layers"),
        key("num_attention_heads", "heads"),
        Key("num_key_value_heads", "kv_heads", defaults.get("num_key_value_heads", 0), null=0),
        key("intermediate_size", "d_ff"),
        key("max_position_embeddings", "context"),
        Key(eps, "norm_eps", epsilon),
        Key("tie_word_embeddings", "tie", tie),
        *ENDS,
    )


ENDS = (Key("eos_token_id", "eos", (), save=_eos_back), Key("bos_token_id", "bos", None))
HEAD_DIM = Key("head_dim", "head_dim", 0)
