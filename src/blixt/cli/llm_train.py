"""blixt llm train-tokenizer, prepare, pretrain, finetune, merge: from text to a trained model."""

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.options import Json
from blixt.cli.output import print_json, say

Inputs = Annotated[list[str], typer.Argument(help="Files or folders of text.")]
Pattern = Annotated[str, typer.Option(help="Which files of a folder.")]
MaxBytes = Annotated[str, typer.Option(help="Read no more text than this.")]
RECIPE: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of commands that hand what they do not know to a recipe's settings."""


def train_tokenizer(
    inputs: Inputs,
    out: Annotated[str, typer.Option(help="The file to write.")] = "tokenizer.json",
    vocab_size: Annotated[int, typer.Option(help="How many tokens.")] = 2048,
    pattern: Pattern = "*.py",
    max_bytes: MaxBytes = "8MB",
    json: Json = False,
) -> None:
    """Train a byte-level BPE tokenizer."""
    with room("llm", *ERRORS):
        from blixt import llm

        path = llm.train_tokenizer(
            inputs, out=out, vocab_size=vocab_size, pattern=pattern, max_bytes=max_bytes
        )
    if json:
        print_json({"path": str(path), "vocab_size": vocab_size})
    else:
        say(f"The tokenizer is in {path}.")


def prepare(
    inputs: Inputs,
    tokenizer: Annotated[str, typer.Option(help="The tokenizer's file.")],
    out: Annotated[str, typer.Option(help="The folder to write.")],
    pattern: Pattern = "*.py",
    max_bytes: MaxBytes = "8MB",
    val_fraction: Annotated[float, typer.Option(help="Kept aside for validation.")] = 0.05,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    json: Json = False,
) -> None:
    """Turn text into token shards, for training and for validation."""
    with room("llm", *ERRORS):
        from blixt import llm

        facts = llm.prepare(
            inputs,
            tokenizer=tokenizer,
            out=out,
            pattern=pattern,
            max_bytes=max_bytes,
            val_fraction=val_fraction,
            workers=workers,
        )
    if json:
        print_json(facts)
    else:
        say(f"Wrote {out}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))


def pretrain(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder that `blixt llm prepare` wrote.")],
    out: Annotated[str | None, typer.Option(help="The model's folder; $BLIXT_MODEL_OUT, or model.")] = None,
    preset: Annotated[str | None, typer.Option(help="The model's shape; demo by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step, over all ranks.")] = None,
    block_size: Annotated[int | None, typer.Option(help="Tokens in a sequence.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The peak.")] = None,
    precision: Annotated[str | None, typer.Option(help="32, bf16-mixed or 16-mixed.")] = None,
    devices: Annotated[str | None, typer.Option(help="Processes to start here: a number, or auto.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same run.")] = None,
    val_every: Annotated[int | None, typer.Option(help="Validate every so many steps.")] = None,
    checkpoint_dir: Annotated[str | None, typer.Option(help="Keep checkpoints here, and resume.")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="List every other setting.")] = False,
    json: Json = False,
) -> None:
    """Pretrain a GPT, from scratch or from --init; joins the group when RANK and WORLD_SIZE are set.

    Any other setting is --name value, with dots into sections (--optim.name muon), or in a --config file.
    """
    given = {
        "data": data,
        "out": out,
        "preset": preset,
        "steps": steps,
        "batch_size": batch_size,
        "block_size": block_size,
        "optim.learning_rate": learning_rate,
        "precision": precision,
        "parallel.devices": devices,
        "seed": seed,
        "val_every": val_every,
        "checkpoint.every": val_every,
        "checkpoint.dir": checkpoint_dir,
    }
    words = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    flags = [*(["--settings"] if settings else []), *(["--json"] if json else [])]
    run_recipe("pretrain", "PretrainConfig", [*words, *context.args, *flags])


def finetune(context: typer.Context) -> None:
    """Finetune a model on chats, instructions or texts: all weights, LoRA, DoRA or QLoRA; see --help."""
    run_recipe("finetune", "FinetuneConfig", context.args)


def merge(
    model: Annotated[str, typer.Argument(help="The base model: a folder or a .gguf file.")],
    adapter: Annotated[str, typer.Argument(help="The adapter's folder, in PEFT's format.")],
    out: Annotated[str, typer.Argument(help="The folder to write.")],
    json: Json = False,
) -> None:
    """Fold an adapter into its base model."""
    with room("llm", *ERRORS):
        from blixt.llm.recipes.adapt import merge_adapter

        path = merge_adapter(model, adapter, out)
    if json:
        print_json({"path": str(path)})
    else:
        say(f"The merged model is in {path}.")


def run_recipe(file: str, settings: str, arguments: Sequence[str]) -> None:
    """Run a recipe with settings from a command line.

    Args:
        file: Of `blixt.llm.recipes`, with a function `run`.
        settings: Its class of settings.
        arguments: `--config FILE` and `--name value`; `--help` or `--settings` list every setting,
            `--print-config` shows what came of them, `--json` prints the result.
    """
    rest = [word for word in arguments if word not in ("--json", "--help", "--settings", "--print-config")]
    with room("llm", *ERRORS):
        from blixt.llm.recipes.config import read, show

        module = import_module(f"blixt.llm.recipes.{file}")
        recipe: Any = getattr(module, settings)
        if "--help" in arguments or "--settings" in arguments:
            return _list_settings(recipe, str(module.__doc__).splitlines()[0])
        config = read(recipe, rest)
        if "--print-config" in arguments:
            return print(show(config), end="")
        metrics = module.run(config)
        from blixt.fabric.rank_zero import current_rank
    if "--json" in arguments and current_rank() == 0:  # every rank gets here
        print_json(metrics)


def _list_settings(recipe: Any, about: str) -> None:
    from blixt.llm.recipes.config import settings_of
    from blixt.llm.recipes.config_files import hub

    print(
        f"blixt llm {recipe.recipe} [--config FILE] [--NAME VALUE ...] [--print-config] [--json]\n\n{about}\n"
    )
    for name, kind, default, text in settings_of(recipe):
        print(f"  --{name}  ({kind}; {default!r})\n      {text}")
    own = [name for name in hub() if name.startswith(f"{recipe.recipe}/")]
    print(f"\nConfigurations that come with blixt: {', '.join(own) or 'none'}")
