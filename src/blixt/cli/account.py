"""blixt login, logout, whoami, console: who you are, and to which server you talk."""

import sys
from typing import Annotated

import typer

from blixt.cli.failure import CliError
from blixt.cli.options import Json, Teamspace
from blixt.cli.output import print_fields, print_json, say


def login(
    url: Annotated[str | None, typer.Argument(help="The server, such as http://127.0.0.1:8480.")] = None,
    token: Annotated[
        str | None, typer.Option(help="Your token; BLIXT_TOKEN, or asked for when not given.")
    ] = None,
    teamspace: Teamspace = None,
    json: Json = False,
) -> None:
    """Sign in to a server and remember it for this user (~/.config/blixt/credentials.json)."""
    from blixt.client import Client, Connection, NotConfigured, save_credentials

    try:
        client = Client(url, token, teamspace)
    except NotConfigured:
        if not url:
            raise
        client = Client(url, _ask_for_token(url), teamspace)
    with client:
        identity = client.whoami()
        chosen = client.teamspace
        if chosen not in [mine.name for mine in identity.teamspaces]:
            names = ", ".join(mine.name for mine in identity.teamspaces) or "none"
            raise CliError(f"You are no member of the teamspace {chosen!r}.", f"Yours: {names}.")
        path = save_credentials(Connection(client.url, client.connection.token, chosen, "blixt login"))
    if json:
        print_json({"url": client.url, "user": identity.user, "teamspace": chosen, "file": str(path)})
    else:
        say(f"Signed in to {client.url} as {identity.user}, teamspace {chosen} (kept in {path}).")


def logout() -> None:
    """Forget the sign-in that `blixt login` saved."""
    from blixt.client import forget_credentials

    say("Signed out." if forget_credentials() else "You were not signed in.")


def whoami(json: Json = False) -> None:
    """Show your user, your teamspaces and your role in each."""
    from blixt.client import Client

    with Client() as client:
        identity, current = client.whoami(), client.teamspace
    if json:
        print_json(
            {
                "user": identity.user,
                "url": client.url,
                "teamspace": current,
                "teamspaces": identity.teamspaces,
                "server_version": identity.server_version,
            }
        )
        return
    roles = ", ".join(f"{mine.name} ({mine.role})" for mine in identity.teamspaces)
    print_fields({"user": identity.user, "server": client.url, "teamspaces": roles, "working in": current})


def console(
    browser: Annotated[bool, typer.Option("--open", "-o", help="Open it in a browser.")] = False,
    json: Json = False,
) -> None:
    """Print a link that signs a browser in to the web console, good for one use."""
    from blixt.client import Client

    with Client() as client:
        url = client.console_url()
    if json:
        print_json({"url": url})
    else:
        print(url)
    if browser:
        typer.launch(url)


def _ask_for_token(url: str) -> str:
    if not sys.stdin.isatty():
        given = sys.stdin.readline().strip()
        if not given:
            raise CliError(f"There is no token for {url}.", "Give --token, or pipe the token in.")
        return given
    return str(typer.prompt(f"Token for {url}", hide_input=True))
