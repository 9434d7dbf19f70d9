"""Read, train and run language models: one decoder file, a tokenizer, a pretraining recipe, a chat server.

`train_tokenizer` and `prepare` turn files of text into token shards, `pretrain` trains a decoder on them,
`LLM` runs a checkpoint directory here and `serve` behind OpenAI's API. The names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.api import LLM, Completion
    from blixt.llm.chat import AnswerParser, ChatTemplate
    from blixt.llm.config import PRESETS, ModelConfig, preset
    from blixt.llm.encoder import Encoder
    from blixt.llm.engine import Engine, EngineConfig
    from blixt.llm.errors import (
        AdapterError,
        ConfigError,
        CorpusError,
        EngineError,
        EngineFull,
        LLMError,
        PromptError,
        RecipeError,
        TemplateError,
        TokenizerError,
        WeightsError,
    )
    from blixt.llm.lora import LoRAConfig, add_lora, load_peft, save_peft
    from blixt.llm.model import GPT
    from blixt.llm.recipes.adapt import merge_adapter
    from blixt.llm.recipes.distill import distill
    from blixt.llm.recipes.dpo import dpo
    from blixt.llm.recipes.finetune import finetune
    from blixt.llm.recipes.grpo import grpo
    from blixt.llm.recipes.pretrain import pretrain
    from blixt.llm.sampling import Sampling
    from blixt.llm.server import ChatAPI, ServeOptions, serve
    from blixt.llm.shards import prepare, train_tokenizer
    from blixt.llm.terminal import chat, generate
    from blixt.llm.tokenizer import Detokenizer, Tokenizer
    from blixt.llm.weights import load_checkpoint, save_checkpoint

_FILE_OF = {
    "AdapterError": "errors",
    "AnswerParser": "chat",
    "ChatAPI": "server",
    "ChatTemplate": "chat",
    "Completion": "api",
    "ConfigError": "errors",
    "CorpusError": "errors",
    "Detokenizer": "tokenizer",
    "Encoder": "encoder",
    "Engine": "engine",
    "EngineConfig": "engine",
    "EngineError": "errors",
    "EngineFull": "errors",
    "GPT": "model",
    "LLM": "api",
    "LLMError": "errors",
    "LoRAConfig": "lora",
    "ModelConfig": "config",
    "PRESETS": "config",
    "PromptError": "errors",
    "RecipeError": "errors",
    "Sampling": "sampling",
    "ServeOptions": "server",
    "TemplateError": "errors",
    "Tokenizer": "tokenizer",
    "TokenizerError": "errors",
    "WeightsError": "errors",
    "add_lora": "lora",
    "chat": "terminal",
    "distill": "recipes.distill",
    "dpo": "recipes.dpo",
    "finetune": "recipes.finetune",
    "generate": "terminal",
    "grpo": "recipes.grpo",
    "load_checkpoint": "weights",
    "load_peft": "lora",
    "merge_adapter": "recipes.adapt",
    "prepare": "shards",
    "preset": "config",
    "pretrain": "recipes.pretrain",
    "save_checkpoint": "weights",
    "save_peft": "lora",
    "serve": "server",
    "train_tokenizer": "shards",
}

__all__ = [
    "GPT",
    "LLM",
    "PRESETS",
    "AdapterError",
    "AnswerParser",
    "ChatAPI",
    "ChatTemplate",
    "Completion",
    "ConfigError",
    "CorpusError",
    "Detokenizer",
    "Encoder",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineFull",
    "LLMError",
    "LoRAConfig",
    "ModelConfig",
    "PromptError",
    "RecipeError",
    "Sampling",
    "ServeOptions",
    "TemplateError",
    "Tokenizer",
    "TokenizerError",
    "WeightsError",
    "add_lora",
    "chat",
    "distill",
    "dpo",
    "finetune",
    "generate",
    "grpo",
    "load_checkpoint",
    "load_peft",
    "merge_adapter",
    "prepare",
    "preset",
    "pretrain",
    "save_checkpoint",
    "save_peft",
    "serve",
    "train_tokenizer",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.llm' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.llm.{file}"), name)
    globals()[name] = value
    return value
