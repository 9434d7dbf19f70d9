"""What can go wrong in the llm room, each a sentence that names the field or file to change."""


class LLMError(Exception):
    """Base of the room's errors."""


class ConfigError(LLMError):
    """A model's configuration is not one this decoder can have."""


class WeightsError(LLMError):
    """A checkpoint's tensors do not fit the model."""


class TokenizerError(LLMError):
    """A tokenizer file is missing or not readable."""


class TemplateError(LLMError):
    """A chat template is broken, does more work than a template may, or refuses a conversation."""


class PromptError(LLMError):
    """A prompt cannot be answered: empty, too long, or sampled with impossible parameters."""


class CorpusError(LLMError):
    """There is no text to learn from where it was looked for."""


class RecipeError(LLMError):
    """A recipe's settings are misspelt, impossible, or do not fit the run that they shall go on with."""


class AdapterError(LLMError):
    """An adapter cannot be put on this model, or its files cannot be read."""


class FormatError(PromptError):
    """The format asked for cannot be compiled, or the model cannot write it."""


class QuantError(LLMError):
    """Weights cannot be stored in the number format asked for, or lose too much in it."""


class EvaluationError(LLMError):
    """What a model shall be judged by is missing or cannot be read."""


class BackendError(LLMError):
    """Another engine is not installed, or cannot do what was asked."""


class EngineFull(LLMError):
    """The engine's queue is as long as it may get."""


class EngineError(LLMError):
    """A request failed inside the engine: its step raised, or something it brought along did."""


class MissingPackageError(LLMError):
    """An optional package is needed for what was asked; the text names the extra to install."""


class TooLittleMemoryError(LLMError):
    """A model does not fit the memory that is free; the text says what would."""


class DownloadError(LLMError):
    """A model could not be fetched from the hub."""
