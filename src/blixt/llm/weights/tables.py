"""The weight rules of a configuration's family."""

from blixt.llm.config import ModelConfig
from blixt.llm.weights.rules import RuleTable


def family_rules(config: ModelConfig) -> RuleTable:
    """The rules between a Hugging Face checkpoint's tensors and the model's.

    Raises:
        ConfigError: No family has the configuration's `model_type`.
    """
    from blixt.llm.families import family_of  # families read the rules' file in this package

    return family_of(config.model_type).rules(config)
