"""A model in llama.cpp: batches of tokens in, logits out, one cache for each of several sequences."""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blixt.llm.errors import BackendError


@dataclass(frozen=True)
class Feed:
    """Tokens for one sequence.

    Attributes:
        sequence: Its number.
        start: Position of the first token.
        tokens: Ids.
        wanted: Whether the logits after the last one are.
    """

    sequence: int
    start: int
    tokens: Sequence[int]
    wanted: bool


class Session:
    """A GGUF file loaded by the `llama_cpp` package, through llama.cpp's C interface.

    Args:
        path: The file.
        context: Most tokens of a sequence.
        sequences: How many have a cache.
        batch_tokens: Most tokens in a batch.
        threads: Of the CPU; 0 takes the library's choice.
        gpu_layers: How many layers go to a GPU; -1 means all.

    Attributes:
        vocab: Width of the logits.
        close: Call it to free everything now; otherwise it happens with the last reference.

    Raises:
        BackendError: The package is missing, or cannot load the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int,
        sequences: int,
        batch_tokens: int,
        threads: int = 0,
        gpu_layers: int = 0,
    ) -> None:
        self._library = lib = _library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 1 << 20
        self._model = lib.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise BackendError(f"llama.cpp cannot load {path}: is it a GGUF file of a model it knows?")
        settings = lib.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = context * sequences, sequences
        settings.n_batch = settings.n_ubatch = batch_tokens
        if threads:
            settings.n_threads = settings.n_threads_batch = threads
        self._context = lib.llama_init_from_model(self._model, settings)
        if not self._context:
            lib.llama_model_free(self._model)
            raise BackendError(f"llama.cpp has no memory for {sequences} sequences of {context} tokens")
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(batch_tokens, 0, 1)
        self.close = weakref.finalize(self, _free, lib, self._batch, self._context, self._model)
        self.vocab: int = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))

    def run(self, feeds: Sequence[Feed]) -> Tensor:
        """Compute a batch.

        Args:
            feeds: Together no more tokens than the batch has room for.

        Returns:
            Logits, (number of wanted feeds, V) in float32.

        Raises:
            BackendError: llama.cpp reports an error.
        """
        batch, at, rows = self._batch, 0, list[int]()
        for feed in feeds:
            for offset, token in enumerate(feed.tokens):
                batch.token[at], batch.pos[at] = token, feed.start + offset
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, feed.sequence
                last = offset == len(feed.tokens) - 1
                batch.logits[at] = int(last and feed.wanted)
                if last and feed.wanted:
                    rows.append(at)
                at += 1
        batch.n_tokens = at
        if code := self._library.llama_decode(self._context, batch):
            raise BackendError(f"llama.cpp could not compute a batch of {at} tokens (code {code})")
        logits = torch.empty(len(rows), self.vocab)
        for row, index in enumerate(rows):
            found = self._library.llama_get_logits_ith(self._context, index)
            ctypes.memmove(logits[row].data_ptr(), found, self.vocab * 4)
        return logits

    def forget(self, sequence: int, start: int = 0) -> None:
        """Drop a sequence's tokens from a position on."""
        self._library.llama_memory_seq_rm(self._memory, sequence, start, -1)


def _free(library: Any, batch: Any, context: Any, model: Any) -> None:
    library.llama_batch_free(batch)
    library.llama_free(context)
    library.llama_model_free(model)


def _library() -> Any:
    try:
        library: Any = import_module("llama_cpp")
    except ImportError:
        raise BackendError("the llama.cpp backend needs llama_cpp: pip install llama-cpp-python") from None
    library.llama_backend_init()
    _quiet(library)
    return library


def _quiet(library: Any) -> None:
    """Let llama.cpp log nothing: what goes wrong is an error here."""
    global _log  # the library keeps only the address, so the callback must not be collected
    _log = library.llama_log_callback(_drop)
    library.llama_log_set(_log, ctypes.c_void_p(0))


def _drop(level: int, text: bytes, data: object) -> None:
    """Take no notice of a log line."""


_log: Any = None
