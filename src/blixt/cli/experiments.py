"""blixt experiment ...: runs and their metrics."""

from typing import Annotated

import typer

from blixt.cli.options import Json, Name, Teamspace, group
from blixt.cli.output import ago, number, print_fields, print_json, print_table, say

app = group("Runs and their metrics.")


@app.command("list")
def list_(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the experiments."""
    from blixt.client import Client, Experiment

    with Client(teamspace=teamspace) as client:
        found = Experiment.list(client=client)
    if json:
        print_json([experiment.data.to_json() for experiment in found])
        return
    rows = [(item.name, item.data.owner, ago(item.data.created_at)) for item in found]
    print_table(("name", "owner", "created"), rows, empty="There are no experiments.")


@app.command()
def runs(name: Name, teamspace: Teamspace = None, json: Json = False) -> None:
    """List the runs of an experiment with the last value of each metric."""
    from blixt.client import Client, Experiment

    with Client(teamspace=teamspace) as client:
        found = Experiment.get(name, client=client).runs()
    if json:
        print_json(found)
        return
    every = dict.fromkeys(metric for run in found for metric in run.summary)
    metrics = sorted(every, key=lambda metric: "loss" not in metric)[:6]  # losses first, then as logged
    rows = [
        (
            run.id,
            run.name,
            run.state,
            ago(run.started_at),
            *[number(run.summary[metric]) if metric in run.summary else "" for metric in metrics],
        )
        for run in found
    ]
    columns = ("run", "name", "state", "started", *[f">{metric}" for metric in metrics])
    print_table(columns, rows, empty=f"The experiment {name} has no runs.")


@app.command()
def show(
    name: Name,
    run: Annotated[str | None, typer.Argument(help="A run's id or name; the newest one.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Only this one; repeat it.")] = None,
    points: Annotated[int, typer.Option(help="Points of each metric.")] = 8,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Show a run: its parameters, and its metrics over the steps."""
    from blixt.client import Client, Experiment

    with Client(teamspace=teamspace) as client:
        experiment = Experiment.get(name, client=client)
        if run is None:
            newest = sorted(experiment.runs(), key=lambda item: item.started_at or 0)[-1:]
            if not newest:
                say(f"The experiment {name} has no runs.")
                return
            chosen = newest[0]
        else:
            chosen = experiment.run(run)
        series = experiment.metrics(chosen, metric, max_points=points)
    if json:
        print_json({"run": chosen, "metrics": series})
        return
    print_fields(
        {
            "run": f"{chosen.name} ({chosen.id})" if chosen.name != chosen.id else chosen.id,
            "state": chosen.state,
            "job": chosen.job or "",
            "started": ago(chosen.started_at),
            "params": ", ".join(f"{key}={value}" for key, value in chosen.params.items()),
        }
    )
    steps = sorted({step for one in series.values() for step in one.step})
    points_of = {key: dict(zip(one.step, one.value, strict=True)) for key, one in series.items()}
    rows = [
        (str(step), *[number(found[step]) if step in found else "" for found in points_of.values()])
        for step in steps
    ]
    print_table((">step", *[f">{key}" for key in points_of]), rows, empty="No metrics yet.")


@app.command()
def delete(name: Name, teamspace: Teamspace = None) -> None:
    """Delete an experiment and all its runs."""
    from blixt.client import Client, Experiment

    with Client(teamspace=teamspace) as client:
        Experiment.get(name, client=client).delete()
    say(f"Experiment {name} is gone.")
