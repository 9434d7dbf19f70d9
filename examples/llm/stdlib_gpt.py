"""A language model of Python's standard library, from files to text, in one process.

    python examples/llm/stdlib_gpt.py --steps 300

Trains a tokenizer on the library's source, writes token shards, pretrains a small decoder on them and lets it
continue a line of code.
"""

import argparse
import sysconfig
import tempfile
from pathlib import Path

from blixt.llm import LLM, prepare, pretrain, train_tokenizer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--text", default="8MB", help="how much source to learn from")
    options.add_argument("--preset", default="demo")
    options.add_argument("--prompt", default="def __init__(self")
    args = options.parse_args()

    stdlib = sysconfig.get_path("stdlib")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tokenizer = train_tokenizer([stdlib], out=work / "tokenizer.json", max_bytes=args.text)
        print(prepare([stdlib], tokenizer=tokenizer, out=work / "tokens", max_bytes=args.text))
        print(pretrain(work / "tokens", out=work / "model", preset=args.preset, steps=args.steps))
        for piece in LLM.load(work / "model").stream(args.prompt, max_tokens=48, temperature=0.7, seed=0):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
