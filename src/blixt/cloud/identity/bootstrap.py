"""The first start: a first user, a first teamspace, and a token to sign in with."""

from typing import TYPE_CHECKING

from blixt.cloud.identity.secrets import write_private

if TYPE_CHECKING:
    from blixt.cloud.api.context import Cloud

FIRST_USER = "admin"
FIRST_TEAMSPACE = "default"


def bootstrap(cloud: "Cloud") -> None:
    """Make a server usable: user `admin`, teamspace `default`, and `<data_dir>/token`.

    Safe to call at every start. A lost or stale token file gets a new token, because whoever can read the
    data folder owns the server anyway.
    """
    people, tokens = cloud.identity.people, cloud.identity.tokens
    with cloud.db.write() as s:
        if not people.user_exists(FIRST_USER, session=s):
            people.create_user(FIRST_USER, is_admin=True, session=s)
        if not people.teamspace_exists(FIRST_TEAMSPACE, session=s):
            people.create_teamspace(FIRST_TEAMSPACE, owner=FIRST_USER, session=s)
    token_file = cloud.settings.token_file
    if token_file.exists() and cloud.identity.authenticate(token_file.read_text().strip()) is not None:
        return
    issued = tokens.issue(FIRST_USER, label="token file", actor="server")
    write_private(token_file, issued.secret + "\n")
