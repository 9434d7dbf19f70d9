"""The table of contents of the `blixt` command: what there is, in which file, in one line each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `blixt`.

    Attributes:
        module: The file in this package that holds it.
        attribute: In that file: a typer app for a group of commands, a function for a single one.
        help: One line.
        own_words: Options after the first plain word belong to that word (`blixt run python -c ...`).
    """

    module: str
    attribute: str
    help: str
    own_words: bool = False


SECTIONS: dict[str, dict[str, Command]] = {
    "Cloud": {
        "up": Command("server", "up", "Start the cloud on this machine."),
        "down": Command("server", "down", "Stop it; nothing is left running."),
        "status": Command("server", "status", "Is it up, and what is running?"),
        "login": Command("account", "login", "Sign in to a server and remember it."),
        "logout": Command("account", "logout", "Forget the sign-in."),
        "whoami": Command("account", "whoami", "Who am I, and in which teamspaces?"),
        "console": Command("account", "console", "A one-time link to the web console."),
        "demo": Command("demo", "demo", "The whole tour, on your machine, in a few minutes."),
    },
    "Work": {
        "studio": Command("studios", "app", "Persistent machines to work in."),
        "run": Command("jobs", "run", "Run a command as a job: blixt run -- python train.py", own_words=True),
        "job": Command("jobs", "app", "See, follow and stop jobs."),
        "deploy": Command("deployments", "deploy", "Put a model or a command behind an address."),
        "deployment": Command("deployments", "app", "See, follow, stop and start deployments."),
        "experiment": Command("experiments", "app", "Runs and their metrics."),
        "model": Command("models", "app", "Models and their versions."),
        "secret": Command("secrets", "app", "Values for workloads that lists never show."),
    },
    "Money and people": {
        "machines": Command("money", "machines", "What can be rented, and for how much."),
        "bill": Command("money", "bill", "What was spent, line by line."),
        "budget": Command("money", "app", "How much may be spent."),
        "members": Command("people", "members", "Who belongs to the teamspace."),
        "token": Command("people", "tokens", "Your access tokens."),
    },
    "Libraries": {
        "fabric": Command("fabric", "app", "Run a script on many devices; merge sharded checkpoints."),
        "data": Command("data", "app", "Look into and check datasets of blixt.data."),
        "llm": Command("llm", "app", "Train, try and serve language models."),
        "serve": Command("serve", "serve", "Serve the API in a Python file; load it; wrap it in an image."),
    },
}

COMMANDS: dict[str, Command] = {
    name: command for section in SECTIONS.values() for name, command in section.items()
}


def help_text(*, bold: str = "", plain: str = "") -> str:
    """What `blixt --help` prints.

    Args:
        bold: The terminal's code for bold, empty without a terminal.
        plain: The code that ends it.
    """
    lines = [
        f"{bold}blixt{plain}: train, serve and run AI on hardware you choose.",
        "",
        f"{bold}Usage:{plain} blixt COMMAND [OPTIONS]",
    ]
    for title, commands in SECTIONS.items():
        lines += ["", f"{bold}{title}{plain}"]
        lines += [f"  {bold}{name:<12}{plain}{command.help}" for name, command in commands.items()]
    lines += [
        "",
        "`blixt COMMAND --help` explains a command; commands that print data take --json.",
        "Set BLIXT_DEBUG=1 to see tracebacks; `blixt --install-completion` teaches your shell.",
    ]
    return "\n".join(lines)
