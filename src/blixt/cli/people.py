"""blixt members ..., blixt token ...: who may come in."""

from typing import Annotated

import typer

from blixt.cli.options import Json, Teamspace, group
from blixt.cli.output import print_json, print_table, say

members = group("Who belongs to the teamspace.")
tokens = group("Your access tokens.")
User = Annotated[str, typer.Argument(help="The user's name.")]
Role = Annotated[str, typer.Option(help="owner, member or viewer.")]


@members.command("list")
def list_members(teamspace: Teamspace = None, json: Json = False) -> None:
    """List the members and their roles."""
    from blixt.client import Client

    with Client(teamspace=teamspace) as client:
        found = client.members()
    if json:
        print_json(found)
    else:
        print_table(
            ("user", "role"), [(item.user, item.role) for item in found], empty="There are no members."
        )


@members.command("invite")
def invite(user: User, role: Role = "member", teamspace: Teamspace = None, json: Json = False) -> None:
    """Create a user, add them, and print their first token, which is shown only now."""
    from blixt.client import Client

    with Client(teamspace=teamspace) as client:
        token = client.create_user(user)
        client.set_member(user, role)
        command = f"blixt login {client.url} --token {token} --teamspace {client.teamspace}"
    if json:
        print_json({"user": user, "role": role, "token": token})
    else:
        say(f"{user} is {role} of {client.teamspace}. They sign in with:")
        print(command)


@members.command("add")
def add(user: User, role: Role = "member", teamspace: Teamspace = None) -> None:
    """Add a user who exists, or change their role."""
    from blixt.client import Client

    with Client(teamspace=teamspace) as client:
        client.set_member(user, role)
    say(f"{user} is {role} of {client.teamspace}.")


@members.command("remove")
def remove(user: User, teamspace: Teamspace = None) -> None:
    """Take a user out of the teamspace."""
    from blixt.client import Client

    with Client(teamspace=teamspace) as client:
        client.remove_member(user)
    say(f"{user} left {client.teamspace}.")


@tokens.command("list")
def list_tokens(json: Json = False) -> None:
    """List your tokens; their secrets are never shown."""
    from blixt.cli.output import ago
    from blixt.client import Client

    with Client() as client:
        found = client.tokens()
    if json:
        print_json(found)
        return
    rows = [
        (str(item.get("id", "")), str(item.get("label") or ""), ago(item.get("created_at"))) for item in found
    ]
    print_table(("id", "label", "created"), rows, empty="You have no tokens.")


@tokens.command("create")
def create_token(
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[float | None, typer.Option(help="It expires after so many days.")] = None,
    json: Json = False,
) -> None:
    """Make a token for yourself; it is shown only now."""
    from blixt.client import Client

    with Client() as client:
        made = client.create_token(label, expires_s=days * 86400 if days else None)
    if json:
        print_json(made)
    else:
        print(made["token"])


@tokens.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(help="Its id, see `token list`.")]) -> None:
    """Make a token worthless at once."""
    from blixt.client import Client

    with Client() as client:
        client.revoke_token(token_id)
    say("Revoked.")
