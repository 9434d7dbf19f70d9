"""What a long context costs in memory: one forward pass of a small model, each in a process of its own.

Two layers of width 64, one with a window of 1,024 tokens and one without, no cache. Reported is how much the
process grew over the loaded model, and CPU seconds. litgpt's mask of all pairs (`build_mask_cache`) makes it
grow with the square of the context; at 131,072 tokens it alone is 16 GiB, so only blixt is run there.

    python -m benchmarks.llm.long_context [--rounds 1] [--out FILE]
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

from benchmarks.llm._measure import options, write

CASES = [(name, count) for count in (8_192, 16_384) for name in ("blixt", "litgpt", "transformers")] + [
    ("blixt, windows only", 131_072),
    ("blixt", 131_072),
]
SIZES = {"vocab": 256, "d": 64, "heads": 2, "d_ff": 128, "window": 1_024}


def blixts(name: str, count: int) -> Any:
    """A window in the first layer, in the second only where the name says so."""
    from blixt.llm.config import LayerSpec, ModelConfig, RopeSpec
    from blixt.llm.model import GPT

    window = LayerSpec(attn="sliding", window=SIZES["window"], rope=RopeSpec())
    specs = (window, window if "windows" in name else LayerSpec(rope=RopeSpec()))
    sizes = {key: SIZES[key] for key in ("vocab", "d", "heads", "d_ff")}
    return GPT(ModelConfig(**sizes, layers=2, kv_heads=1, context=count, layer_specs=specs))


def litgpts(count: int) -> Any:
    """The same in litgpt."""
    from litgpt.config import Config
    from litgpt.model import GPT as LitGPT

    return LitGPT(
        Config(
            padded_vocab_size=SIZES["vocab"],
            n_embd=SIZES["d"],
            n_layer=2,
            n_head=SIZES["heads"],
            n_query_groups=1,
            intermediate_size=SIZES["d_ff"],
            block_size=count,
            mlp_class_name="LLaMAMLP",
            norm_class_name="RMSNorm",
            bias=False,
            parallel_residual=False,
            rotary_percentage=1.0,
            sliding_window_size=SIZES["window"],
            sliding_window_indices=[1, 0],
        )
    )


def transformers(count: int) -> Any:
    """The same in transformers: Qwen 2, whose layers may differ."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=SIZES["vocab"],
            hidden_size=SIZES["d"],
            num_hidden_layers=2,
            num_attention_heads=SIZES["heads"],
            num_key_value_heads=1,
            intermediate_size=SIZES["d_ff"],
            max_position_embeddings=count,
            sliding_window=SIZES["window"],
            use_sliding_window=True,
            layer_types=["sliding_attention", "full_attention"],
            attn_implementation="sdpa",
        )
    )


def one(name: str, count: int) -> None:
    """Run one case and print its figures; called in a process of its own."""
    import torch

    torch.set_num_threads(1)
    others = {"litgpt": litgpts, "transformers": transformers}
    model = others[name](count) if name in others else blixts(name, count)
    with torch.inference_mode():
        model(torch.zeros(1, 64, dtype=torch.long))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        model(torch.randint(0, SIZES["vocab"], (1, count)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"grown_mib": grown / 1024, "cpu_s": time.process_time() - start}))


def main() -> None:
    if sys.argv[1:2] == ["--case"]:
        return one(sys.argv[2], int(sys.argv[3]))
    arguments = options("long-context", 1, __doc__)
    results: dict[str, Any] = {}
    print(f"{'':36}{'MiB grown':>10}{'CPU s':>8}")
    for name, count in CASES:
        command = [sys.executable, "-m", "benchmarks.llm.long_context", "--case", name, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.strip().splitlines()[-1])
        results[f"{name}, {count} tokens"] = row
        print(f"{name + f', {count} tokens':36}{row['grown_mib']:10.0f}{row['cpu_s']:8.1f}", flush=True)
    return write(arguments.out, arguments.rounds, results)


if __name__ == "__main__":
    main()
