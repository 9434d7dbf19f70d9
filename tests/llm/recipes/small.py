"""A small model with its tokenizer, text that comes with Python, and a run that is killed."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from blixt.llm.config import ModelConfig
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import save_checkpoint

CONTEXT = 128


def source_lines(*modules: ModuleType) -> list[str]:
    """Lines of code of the standard library: real text that is on every machine."""
    lines = "\n".join(inspect.getsource(module) for module in modules).splitlines()
    return [line for line in lines if len(line.strip()) > 12 and len(line) < 60]


def small_model(folder: Path, *, seed: int = 0, vocab: int = 320, **sizes: Any) -> Path:
    """A checkpoint directory with fresh weights and a tokenizer of this file's text."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train([inspect.getsource(json)], vocab)
    shape = {"d": 48, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 96, "context": CONTEXT, **sizes}
    model = GPT(ModelConfig(vocab=len(tokenizer), eos=tokenizer.eos, **shape))
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def run_and_kill(call: str, settings: dict[str, Any], at: Callable[[str], bool]) -> None:
    """Start `call` (module:function) in a process and kill it, without a warning, at a line it prints."""
    module, function = call.split(":")
    code = f"import json, sys; from {module} import {function} as f; f(**json.loads(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(settings)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if at(line):
            break
    else:
        raise AssertionError("the run ended before it could be killed:\n" + "".join(lines))
    process.send_signal(signal.SIGKILL)
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
