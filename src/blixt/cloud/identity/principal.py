"""Who makes a request."""

from collections.abc import Mapping
from dataclasses import dataclass

from blixt.cloud.identity.roles import Role


@dataclass(frozen=True)
class Principal:
    """A signed-in caller.

    Attributes:
        user: The user's name.
        is_admin: May administer the server; never set for a token of narrower scope.
        roles: Role by teamspace, already cut down to the token's scope.
        token_id: The token presented.
        scope: What a narrower token is for, such as `job/train`; None for a full token.
        token_kind: token, session or workload.
    """

    user: str
    is_admin: bool
    roles: Mapping[str, Role]
    token_id: str
    token_kind: str = "token"
    scope: str | None = None

    @property
    def actor(self) -> str:
        """The name in the audit log."""
        return self.user if self.scope is None else f"{self.user} via {self.scope}"

    @property
    def is_full(self) -> bool:
        """Whether the token has all of its user's rights."""
        return self.scope is None
