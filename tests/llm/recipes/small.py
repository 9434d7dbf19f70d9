"""A small model with its tokenizer, text that comes with Python, and a run that is killed."""

import importlib
import inspect
import json
import json.decoder
import json.encoder
import multiprocessing
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from blixt.llm.attention import Packed
from blixt.llm.config import ModelConfig
from blixt.llm.data import Loader, load_examples, pack, tokenize
from blixt.llm.losses import token_loss
from blixt.llm.model import GPT
from blixt.llm.recipes.resume import Checkpoints
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import save_checkpoint

CONTEXT = 128


def source_lines(*modules: ModuleType) -> list[str]:
    """Lines of code of the standard library: real text that is on every machine."""
    lines = "\n".join(inspect.getsource(module) for module in modules).splitlines()
    return [line for line in lines if len(line.strip()) > 12 and len(line) < 60]


def small_model(folder: Path, *, seed: int = 0, vocab: int = 320, steps: int = 0, **sizes: Any) -> Path:
    """A checkpoint directory with a tokenizer of `json`'s source, and `steps` of training on it."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train([inspect.getsource(json)], vocab)
    shape = {"d": 48, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 96, "context": CONTEXT, **sizes}
    model = GPT(ModelConfig(vocab=len(tokenizer), eos=tokenizer.eos, **shape))
    train(model, tokenizer, source_lines(json.decoder, json.encoder), steps)
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


def train(model: GPT, tokenizer: Tokenizer, lines: list[str], steps: int) -> None:
    """Next-token prediction on lines, each a document."""
    units = tokenize(load_examples(lines), tokenizer, CONTEXT).units
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _, block in zip(range(steps), Loader(pack(units, CONTEXT), 4), strict=False):
        hidden = model.hidden(block.tokens, Packed(block.documents))
        token_loss(model, hidden, block.targets, block.mask).backward()
        optimizer.step()
        optimizer.zero_grad()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def run_and_kill(call: str, settings: dict[str, Any], step: int) -> None:
    """Run `call` (module:function) in a process that dies of SIGKILL after a step, before it can save it.

    The process is forked from one that has imported the recipes and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blixt.llm.recipes.finetune", "blixt.llm.recipes.grpo"])
    dying = context.Process(target=_die_after, args=(call, settings, step))
    dying.start()
    dying.join(timeout=500)
    assert dying.exitcode == -signal.SIGKILL


def _die_after(call: str, settings: dict[str, Any], step: int) -> None:
    torch.set_num_threads(1)
    due = Checkpoints.due

    def die(self: Checkpoints, at: int, last: int) -> bool:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return due(self, at, last)

    Checkpoints.due = die  # type: ignore[method-assign]
    module, function = call.split(":")
    getattr(importlib.import_module(module), function)(**settings)
