"""Read, train and run language models: one decoder file, a tokenizer, a pretraining recipe, a chat server.

`train_tokenizer` and `prepare` turn files of text into token shards, `pretrain` trains a decoder on them,
`LLM` runs a checkpoint directory here and `serve` behind OpenAI's API. The names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.llm.api import LLM, Completion
    from blixt.llm.attention import Cached, Causal, Packed
    from blixt.llm.backends import load_backend
    from blixt.llm.cache import KVCache
    from blixt.llm.chat import AnswerParser, ChatTemplate
    from blixt.llm.config import (
        PRESETS,
        LayerSpec,
        MLASpec,
        ModelConfig,
        MoESpec,
        RopeSpec,
        Temperature,
        preset,
    )
    from blixt.llm.encoder import Encoder
    from blixt.llm.engine import Engine, EngineConfig
    from blixt.llm.engine.adapters import AdapterSet
    from blixt.llm.engine.grammar import Format
    from blixt.llm.engine.speculative import NgramProposer
    from blixt.llm.engine.speculative_draft import DraftProposer
    from blixt.llm.errors import (
        AdapterError,
        BackendError,
        ConfigError,
        CorpusError,
        EngineError,
        EngineFull,
        EvaluationError,
        FormatError,
        LLMError,
        PromptError,
        QuantError,
        RecipeError,
        TemplateError,
        TokenizerError,
        WeightsError,
    )
    from blixt.llm.evaluate import evaluate_file, evaluate_tasks, multiple_choice, perplexity
    from blixt.llm.lora import LoRAConfig, add_lora, load_peft, save_peft
    from blixt.llm.model import GPT
    from blixt.llm.quant import load_quantized, perplexity_gate, quantize, save_quantized
    from blixt.llm.recipes.adapt import merge_adapter
    from blixt.llm.recipes.distill import distill
    from blixt.llm.recipes.dpo import dpo
    from blixt.llm.recipes.finetune import finetune
    from blixt.llm.recipes.grpo import grpo
    from blixt.llm.recipes.pretrain import pretrain
    from blixt.llm.sampling import Sampling
    from blixt.llm.server import ChatAPI, EmbeddingAPI, ServeOptions, serve
    from blixt.llm.shards import prepare, train_tokenizer
    from blixt.llm.terminal import chat, generate
    from blixt.llm.tokenizer import Detokenizer, Tokenizer
    from blixt.llm.weights import load_checkpoint, load_weights, save_checkpoint, save_weights, writable
    from blixt.llm.weights.convert import convert
    from blixt.llm.weights.download import download
    from blixt.llm.weights.estimate import Memory, Use, check_memory, estimate
    from blixt.llm.weights.info import info
    from blixt.llm.weights.validate import validate

_FILE_OF = {
    "AdapterError": "errors",
    "AdapterSet": "engine.adapters",
    "AnswerParser": "chat",
    "BackendError": "errors",
    "Cached": "attention",
    "Causal": "attention",
    "ChatAPI": "server",
    "ChatTemplate": "chat",
    "Completion": "api",
    "ConfigError": "errors",
    "CorpusError": "errors",
    "Detokenizer": "tokenizer",
    "DraftProposer": "engine.speculative_draft",
    "EmbeddingAPI": "server",
    "Encoder": "encoder",
    "Engine": "engine",
    "EngineConfig": "engine",
    "EngineError": "errors",
    "EngineFull": "errors",
    "EvaluationError": "errors",
    "Format": "engine.grammar",
    "FormatError": "errors",
    "GPT": "model",
    "KVCache": "cache",
    "LLM": "api",
    "LLMError": "errors",
    "LayerSpec": "config",
    "LoRAConfig": "lora",
    "MLASpec": "config",
    "Memory": "weights.estimate",
    "MoESpec": "config",
    "ModelConfig": "config",
    "NgramProposer": "engine.speculative",
    "PRESETS": "config",
    "Packed": "attention",
    "PromptError": "errors",
    "QuantError": "errors",
    "RecipeError": "errors",
    "RopeSpec": "config",
    "Sampling": "sampling",
    "ServeOptions": "server",
    "Temperature": "config",
    "TemplateError": "errors",
    "Tokenizer": "tokenizer",
    "TokenizerError": "errors",
    "Use": "weights.estimate",
    "WeightsError": "errors",
    "add_lora": "lora",
    "check_memory": "weights.estimate",
    "convert": "weights.convert",
    "distill": "recipes.distill",
    "download": "weights.download",
    "dpo": "recipes.dpo",
    "estimate": "weights.estimate",
    "evaluate_file": "evaluate",
    "evaluate_tasks": "evaluate",
    "finetune": "recipes.finetune",
    "generate": "terminal",
    "grpo": "recipes.grpo",
    "info": "weights.info",
    "load_backend": "backends",
    "load_checkpoint": "weights",
    "load_peft": "lora",
    "load_quantized": "quant",
    "load_weights": "weights",
    "merge_adapter": "recipes.adapt",
    "multiple_choice": "evaluate",
    "perplexity": "evaluate",
    "perplexity_gate": "quant",
    "prepare": "shards",
    "preset": "config",
    "pretrain": "recipes.pretrain",
    "quantize": "quant",
    "save_checkpoint": "weights",
    "save_peft": "lora",
    "save_quantized": "quant",
    "save_weights": "weights",
    "serve": "server",
    "train_tokenizer": "shards",
    "validate": "weights.validate",
    "writable": "weights",
}

__all__ = [
    "GPT",
    "LLM",
    "PRESETS",
    "AdapterError",
    "AdapterSet",
    "AnswerParser",
    "BackendError",
    "Cached",
    "Causal",
    "ChatAPI",
    "ChatTemplate",
    "Completion",
    "ConfigError",
    "CorpusError",
    "Detokenizer",
    "DraftProposer",
    "EmbeddingAPI",
    "Encoder",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineFull",
    "EvaluationError",
    "Format",
    "FormatError",
    "KVCache",
    "LLMError",
    "LayerSpec",
    "LoRAConfig",
    "MLASpec",
    "Memory",
    "MoESpec",
    "ModelConfig",
    "NgramProposer",
    "Packed",
    "PromptError",
    "QuantError",
    "RecipeError",
    "RopeSpec",
    "Sampling",
    "ServeOptions",
    "Temperature",
    "TemplateError",
    "Tokenizer",
    "TokenizerError",
    "Use",
    "WeightsError",
    "add_lora",
    "chat",
    "check_memory",
    "convert",
    "distill",
    "download",
    "dpo",
    "estimate",
    "evaluate_file",
    "evaluate_tasks",
    "finetune",
    "generate",
    "grpo",
    "info",
    "load_backend",
    "load_checkpoint",
    "load_peft",
    "load_quantized",
    "load_weights",
    "merge_adapter",
    "multiple_choice",
    "perplexity",
    "perplexity_gate",
    "prepare",
    "preset",
    "pretrain",
    "quantize",
    "save_checkpoint",
    "save_peft",
    "save_quantized",
    "save_weights",
    "serve",
    "train_tokenizer",
    "validate",
    "writable",
]


def __getattr__(name: str) -> object:
    if name == "chat":  # the package, which can be called: importing it binds this name, so nothing else may
        return import_module("blixt.llm.chat")
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.llm' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.llm.{file}"), name)
    globals()[name] = value
    return value
