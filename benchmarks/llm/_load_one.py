"""One loader in a process of its own, for `benchmarks.llm.load`: prints its figures as JSON."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.llm.load import LITGPT, NEW_TOKENS, PROMPT

Forward = Callable[[torch.Tensor], torch.Tensor]


def load_blixt(directory: Path) -> Callable[[], Forward]:
    """Ours: the file's own pages."""
    from blixt.llm import load_checkpoint

    return lambda: load_checkpoint(directory)


def load_transformers(directory: Path) -> Callable[[], Forward]:
    """As the model card says."""
    from transformers import AutoModelForCausalLM
    from transformers.models.llama import modeling_llama  # else it would be imported inside the timer

    assert modeling_llama.LlamaForCausalLM

    def load() -> Forward:
        model = AutoModelForCausalLM.from_pretrained(directory)
        return lambda tokens: model(tokens, use_cache=False).logits

    return load


def load_litgpt(directory: Path) -> Callable[[], Forward]:
    """Its Python API, on the converted checkpoint."""
    from litgpt import LLM

    def load() -> Forward:
        return LLM.load(str(directory)).model

    return load


def convert_for_litgpt(directory: Path) -> dict[str, float]:
    """What litgpt does once, before it can load."""
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    start = time.process_time()
    convert_hf_checkpoint(checkpoint_dir=directory, model_name=LITGPT)
    size = (directory / "lit_model.pth").stat().st_size
    return {"cpu_s": time.process_time() - start, "disk_mb": size / 1e6}


def measure(load: Callable[[], Forward]) -> dict[str, Any]:
    """CPU seconds to the model and to its first logits, memory then, and the greedy tokens."""
    start = time.process_time()
    forward = load()
    loaded = time.process_time()
    tokens = list(PROMPT)
    with torch.inference_mode():
        logits = forward(torch.tensor([tokens]))
        first = time.process_time()
        memory = memory_mb()
        for _ in range(NEW_TOKENS):
            tokens.append(int(logits[0, -1].argmax()))
            logits = forward(torch.tensor([tokens]))
    return {
        "load_s": loaded - start,
        "first_s": first - start,
        "anonymous_mb": memory["RssAnon"],
        "file_mb": memory["RssFile"],
        "peak_mb": memory["VmHWM"],
        "tokens": tokens[len(PROMPT) :],
    }


def memory_mb() -> dict[str, float]:
    """What Linux says of this process."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {parts[0].rstrip(":"): float(parts[1]) / 1024 for parts in lines if parts[-1] == "kB"}


LOADERS = {"blixt": load_blixt, "transformers": load_transformers, "litgpt": load_litgpt}

if __name__ == "__main__":
    torch.set_num_threads(1)
    what, where = sys.argv[1], Path(sys.argv[2])
    figures = convert_for_litgpt(where) if what == "convert" else measure(LOADERS[what](where))
    print(json.dumps(figures))
