"""The same configuration in the form of transformers 4."""

from tests.llm.families.tiny import FULL, SLIDING, Json


def version_4(config: Json) -> Json:
    """The configuration with the rope keys of transformers 4."""
    config = dict(config)
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return config
    if FULL in rope:
        config["rope_local_base_freq"] = rope[SLIDING]["rope_theta"]
        rope = rope[FULL]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if config.get("original_max_position_embeddings"):  # Phi-3 keeps it beside, not inside
        rope.pop("original_max_position_embeddings", None)
        rope["type"] = rope.pop("rope_type")  # and knows only the oldest name of the kind
    if "default" not in (rope.get("rope_type"), rope.get("type")):
        config["rope_scaling"] = rope
    return config
