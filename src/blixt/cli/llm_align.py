"""blixt llm dpo, grpo, distill: from a model to one that does more of what is wanted."""

import typer

from blixt.cli.llm_train import run_recipe


def dpo(context: typer.Context) -> None:
    """Train a model on preferences (DPO, IPO, KTO, SimPO, ORPO); see --help."""
    run_recipe("dpo", "DPOConfig", context.args)


def grpo(context: typer.Context) -> None:
    """Train a model on rewards that can be checked (GRPO and its variants); see --help."""
    run_recipe("grpo", "GRPOConfig", context.args)


def distill(context: typer.Context) -> None:
    """Train a small model on a large one's probabilities; see --help."""
    run_recipe("distill", "DistillConfig", context.args)
