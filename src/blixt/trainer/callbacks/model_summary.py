"""Print what the module is made of when a fit begins."""

from typing import TYPE_CHECKING, Any

from blixt.trainer.callback import Callback
from blixt.trainer.summary import ModelSummary as Summary

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class ModelSummary(Callback):
    """Prints layers, parameters, and with an `example_input_array` shapes and operations; on rank 0.

    Args:
        max_depth: How many levels of submodules; 0 prints nothing, -1 all of them.
    """

    def __init__(self, max_depth: int = 1) -> None:
        self._max_depth = max_depth

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Print it."""
        if self._max_depth != 0:
            summary = self.summary_of(module)
            if trainer.is_global_zero:
                self.show(summary)

    def summary_of(self, module: "Module") -> Summary:
        """What is printed."""
        return Summary(module, self._max_depth)

    def show(self, summary: Summary) -> None:
        """Print it; override it for another form."""
        print(summary)


class RichModelSummary(ModelSummary):
    """The same as a table in colours, by the rich package.

    Args:
        max_depth: How many levels of submodules; 0 prints nothing, -1 all of them.
        header_style: Style of the heading, as rich writes it.
    """

    def __init__(self, max_depth: int = 1, header_style: str = "bold magenta") -> None:
        from blixt.trainer.callbacks.rich_bar import need_rich

        need_rich("RichModelSummary")
        super().__init__(max_depth)
        self._header_style = header_style

    def show(self, summary: Summary) -> None:
        """Print the table."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        rows = summary.rows()
        table = Table(header_style=self._header_style)
        for name in rows[0] if rows else dict[str, str]():
            style: dict[str, Any] = {"style": "dim"} if name == "" else {}
            table.add_column(name, justify="left" if name in ("Name", "Type", "") else "right", **style)
        for row in rows:
            table.add_row(*row.values())
        if rows:
            console.print(table)
        totals = Table.grid(padding=(0, 1))
        for number, meaning in summary.totals():
            totals.add_row(f"[bold]{meaning}[/]", number)
        console.print(totals)
