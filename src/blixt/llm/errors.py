"""What can go wrong in the llm room, each a sentence that names the field or file to change."""


class LLMError(Exception):
    """Base of the room's errors."""


class ConfigError(LLMError):
    """A model's configuration is not one this decoder can have."""


class WeightsError(LLMError):
    """A checkpoint's tensors do not fit the model."""


class TokenizerError(LLMError):
    """A tokenizer file is missing or not readable."""


class PromptError(LLMError):
    """A prompt cannot be answered: empty, too long, or sampled with impossible parameters."""


class CorpusError(LLMError):
    """There is no text to learn from where it was looked for."""


class RecipeError(LLMError):
    """A recipe's settings are misspelt, impossible, or do not fit the run that they shall go on with."""


class AdapterError(LLMError):
    """An adapter cannot be put on this model, or its files cannot be read."""
