"""blixt demo: the whole tour."""

from typing import Annotated

import typer

from blixt.cli.failure import room


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cloud up and print its address.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps of training.")] = False,
) -> int:
    """From nothing to a trained, served, billed model, every command printed."""
    with room("demo"):
        from blixt import demo as tour

        return tour.main([*(["--keep"] if keep else []), *(["--quick"] if quick else [])])
