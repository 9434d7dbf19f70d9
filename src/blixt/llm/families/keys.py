"""A Hugging Face `config.json` read key by key, so that no key is passed over in silence."""

from typing import Any

from blixt.llm.errors import ConfigError

Json = dict[str, Any]

_NAMES = """
    architectures model_type torch_dtype dtype transformers_version auto_map name_or_path use_cache
    cache_implementation initializer_range init_std embd_pdrop resid_pdrop attn_pdrop attention_dropout
    hidden_dropout residual_dropout embedding_dropout classifier_dropout pad_token_id sep_token_id
    decoder_start_token_id forced_bos_token_id forced_eos_token_id pretraining_tp output_router_logits
    router_aux_loss_coef router_jitter_noise gradient_checkpointing is_decoder is_encoder_decoder
    return_dict output_attentions output_hidden_states torchscript use_bfloat16 pruned_heads
    tie_encoder_decoder cross_attention_hidden_size add_cross_attention finetuning_task tokenizer_class
    prefix task_specific_params problem_type chunk_size_feed_forward id2label label2id tf_legacy_loss
    attn_implementation max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
    output_scores return_dict_in_generate remove_invalid_values exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens use_flash_attn use_flash_attention unsloth_fixed
    unsloth_version summary_type summary_use_proj summary_activation summary_first_dropout
    summary_proj_to_labels head_dtype per_layer_config transformers.js_config
"""
HARMLESS = frozenset(_NAMES.split())
"""Keys that change nothing a decoder computes: dropout, initialisation, generation, bookkeeping."""

READ_QUANTISED = ("mxfp4", "fp8", "gptq", "awq")
"""`quant_method`s whose weights the reader turns into numbers before the rules see them."""


class Keys:
    """What is left to read of a `config.json`.

    Args:
        data: The parsed file.
    """

    def __init__(self, data: Json) -> None:
        self._left = dict(data)

    def has(self, name: str) -> bool:
        """Whether the file says something of a key, be it null."""
        return name in self._left

    def give(self, **values: Any) -> None:
        """Put keys back for a part that reads later."""
        self._left.update(values)

    def take(self, name: str, *default: Any) -> Any:
        """One key's value; the default stands for a missing key and for null.

        Raises:
            ConfigError: The key is missing and has no default.
        """
        value = self._left.pop(name, None)
        if value is None:
            if not default:
                raise ConfigError(f"config.json lacks the key {name!r}")
            return default[0]
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """A key that may be absent, or null, or say one of `allowed` (anything, where that is empty).

        Raises:
            ConfigError: It says something that this decoder does not have.
        """
        value = self._left.pop(name, None)
        if value is not None and allowed and value not in allowed:
            raise unsupported(name, value, f"only {' or '.join(map(repr, allowed))} can be computed")

    def finish(self) -> None:
        """Look at what nobody read.

        Raises:
            ConfigError: A key is neither read nor known to be harmless.
        """
        quantised: Json = self._left.pop("quantization_config", None) or {}
        if quantised and quantised.get("quant_method") not in READ_QUANTISED:
            raise unsupported("quantization_config.quant_method", quantised.get("quant_method"), "not read")
        for name, value in self._left.items():
            if value is not None and name not in HARMLESS and not name.startswith("_"):
                why = "this model type is not known to have the key; remove it if it changes nothing"
                raise unsupported(name, value, why)


def unsupported(name: str, value: Any, why: str) -> ConfigError:
    """The error for a key that cannot be expressed."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ConfigError(f"config.json says {name}={shown}: {why}")
