"""From a checkpoint on disk to the first logits: blixt, transformers, litgpt.

    python -m benchmarks.llm.load [--rounds 2]

A random model of Llama 3.2 1B's shape (1.24 billion parameters, bfloat16, 2.5 GB) is written to a temporary
directory and removed at the end. Each run is a process of its own: imports are not counted, CPU seconds are,
from the call that loads until the logits of eight tokens; memory is what Linux says of the process then,
split into what is its own (anonymous) and what it shares with the file. litgpt needs its own format: the
conversion is counted apart, once. All must write the same greedy tokens.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.llm._measure import options
from benchmarks.train._loops import machine

SYSTEMS = ("blixt", "transformers", "litgpt")
PROMPT = [1, 17, 300, 4711, 99, 1000, 5, 7]
NEW_TOKENS = 4
SHAPE: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "eos_token_id": 2,
    "bos_token_id": 1,
}
LITGPT = "Llama-3.2-1B"


def main() -> None:
    """Write the checkpoint, load it in turns, print and keep the figures."""
    args = options("load", 2, __doc__)
    directory = Path(tempfile.mkdtemp(prefix="blixt-load-")) / LITGPT
    directory.mkdir()
    try:
        write_checkpoint(directory)
        conversion = run("convert", directory)
        runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
        for number in range(args.rounds):
            for system in SYSTEMS if number % 2 else SYSTEMS[::-1]:
                runs[system].append(run(system, directory))
    finally:
        shutil.rmtree(directory.parent)
    report(runs, conversion, args.out)


def write_checkpoint(directory: Path) -> None:
    """A model of the shape whose choices are decisive, and the tokenizer that litgpt insists on."""
    import torch

    from blixt.llm.config import ModelConfig
    from blixt.llm.model import GPT
    from blixt.llm.tokenizer import Tokenizer
    from blixt.llm.weights.save import save_config, write_state
    from blixt.llm.weights.source import TensorInfo

    config = ModelConfig.from_hf(SHAPE)
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.03
    shapes = {name: tuple(p.shape) for name, p in GPT.empty(config).named_parameters()}

    def tensor(name: str) -> Any:
        count = int(torch.tensor(shapes[name]).prod())
        shift = sum(name.encode()) % 9973
        repeated = noise.roll(shift).repeat(-(-count // len(noise)))[:count]
        filled = repeated if len(shapes[name]) > 1 else 1 + repeated
        return filled.reshape(shapes[name]).bfloat16()

    infos = {name: TensorInfo.plain(shape, torch.bfloat16) for name, shape in shapes.items()}
    write_state(directory, config, infos, tensor, max_shard_bytes=10**10, dtype=None)
    save_config(config, directory, torch.bfloat16)
    Tokenizer.train([Path(__file__).read_text()], vocab_size=400).save(directory)


def run(what: str, directory: Path) -> dict[str, Any]:
    """One process; its last line is JSON."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.llm._load_one", what, str(directory)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(runs: dict[str, list[dict[str, Any]]], conversion: dict[str, Any], out: Path) -> None:
    """The table, and the JSON beside it."""
    tokens = {system: rounds[0]["tokens"] for system, rounds in runs.items()}
    same = len({tuple(each) for each in tokens.values()}) == 1
    medians = {
        system: {key: median(each[key] for each in rounds) for key in rounds[0] if key != "tokens"}
        for system, rounds in runs.items()
    }
    ours = medians["blixt"]
    print(f"1.24B bfloat16, Llama 3.2 1B's shape; {machine()}; {time.strftime('%Y-%m-%d')}")
    columns = "load CPU s  to logits CPU s  anonymous MB  file MB  peak MB   CPU / blixt  anonymous / blixt"
    print(f"{'':14} {columns}")
    for system, each in medians.items():
        print(
            f"{system:14}{each['load_s']:11.2f}{each['first_s']:17.2f}{each['anonymous_mb']:14.0f}"
            f"{each['file_mb']:9.0f}{each['peak_mb']:9.0f}{each['first_s'] / ours['first_s']:14.2f}"
            f"{each['anonymous_mb'] / ours['anonymous_mb']:19.2f}"
        )
    print(
        f"litgpt's conversion: {conversion['cpu_s']:.1f} CPU s, {conversion['disk_mb']:.0f} MB more on disk"
    )
    print("goal: litgpt at least 4 x our CPU seconds, and our anonymous memory at most 1/8 of its")
    print("all wrote the same tokens" if same else f"TOKENS DIFFER: {tokens}")
    result = {"machine": machine(), "medians": medians, "runs": runs, "conversion": conversion, "same": same}
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
