"""blixt machines, bill, budget ...: what things cost, and how much may be spent."""

from typing import Annotated

import typer

from blixt.cli.options import Json, Teamspace, group
from blixt.cli.output import duration, print_fields, print_json, print_table, say

app = group("How much may be spent.")
BudgetName = Annotated[str, typer.Option("--name", help="Which budget, when there are several.")]


def machines(json: Json = False) -> None:
    """List the machines on offer, with their prices."""
    from blixt.client import Client, credits

    with Client() as client:
        offers = client.machines()
    if json:
        print_json(offers)
        return
    rows = [
        (
            offer.name,
            f"{offer.cpus:g}",
            f"{offer.memory_gb:g} GB",
            str(offer.gpus),
            credits(offer.price_uc_per_hour),
            _available(offer.available),
        )
        for offer in offers
    ]
    columns = ("name", ">cpus", ">memory", ">gpus", ">price/hour", "available")
    print_table(columns, rows, empty="No machines are on offer.")


def bill(
    days: Annotated[float | None, typer.Option(help="Only the last so many days.")] = None,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Show what was spent: every machine-second at the machine's price."""
    import time

    from blixt.client import Client, credits

    with Client(teamspace=teamspace) as client:
        found = client.bill(since=time.time() - days * 86400 if days else None)
    if json:
        print_json(found)
        return
    rows = [
        (
            line.kind,
            line.name,
            line.machine,
            duration(line.seconds) if line.seconds >= 60 else f"{line.seconds:.1f}s",
            credits(line.amount_uc),
            "running" if line.open else "",
        )
        for line in found.lines
    ]
    print_table(("kind", "name", "machine", ">time", ">amount", ""), rows, empty="Nothing was spent.")
    print_fields(
        {
            "total": credits(found.total_uc),
            "budget": credits(found.budget_uc) if found.budget_uc is not None else "none set",
            "left": credits(found.remaining_uc) if found.remaining_uc is not None else "",
        }
    )


@app.command("set")
def set_(
    credits: Annotated[float, typer.Argument(help="The limit, in credits.", min=0)],
    name: BudgetName = "default",
    period: Annotated[str, typer.Option(help="total, or month for one that begins anew.")] = "total",
    applies_to: Annotated[str, typer.Option(help="teamspace, or user:NAME.")] = "teamspace",
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Set a budget: starts that it does not cover are refused."""
    from blixt.client import Budget, Client

    with Client(teamspace=teamspace) as client:
        budget = Budget.set(credits, name=name, period=period, applies_to=applies_to, client=client)
    if json:
        print_json(budget.data.to_json())
    else:
        say(f"Budget {name}: {credits:g} cr ({period}, {applies_to}).")


@app.command()
def show(teamspace: Teamspace = None, json: Json = False) -> None:
    """Show the budgets, and what is left of each."""
    from blixt.client import Budget, Client, credits

    with Client(teamspace=teamspace) as client:
        budgets = Budget.list(client=client)
    if json:
        print_json([budget.data.to_json() for budget in budgets])
        return
    rows = [
        (
            budget.name,
            str(budget.spec.get("applies_to", "")),
            str(budget.spec.get("period", "")),
            credits(budget.limit_uc),
            credits(budget.spent_uc),
            credits(budget.held_uc),
            credits(budget.remaining_uc),
        )
        for budget in budgets
    ]
    columns = ("name", "applies to", "period", ">limit", ">spent", ">held", ">left")
    print_table(columns, rows, empty="No budget is set: spending has no limit.")


@app.command()
def delete(name: BudgetName = "default", teamspace: Teamspace = None) -> None:
    """Remove a budget."""
    from blixt.client import Budget, Client

    with Client(teamspace=teamspace) as client:
        Budget.get(name, client=client).delete()
    say(f"Budget {name} is gone.")


def _available(value: bool | int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
