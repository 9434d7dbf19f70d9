"""What each role may do, as a table of rules. A role may also do what the roles below it may."""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """A user's role in a teamspace; a higher one includes the lower ones."""

    VIEWER = 1
    MEMBER = 2
    OWNER = 3

    @property
    def label(self) -> str:
        """The role as the API writes it."""
        return self.name.lower()


@dataclass(frozen=True)
class Rule:
    """`role` and above may do any of `actions` to any of `kinds`."""

    role: Role
    actions: frozenset[str]
    kinds: frozenset[str]


def _rule(role: Role, actions: str, kinds: str) -> Rule:
    return Rule(role, frozenset(actions.split()), frozenset(kinds.split()))


RULES: tuple[Rule, ...] = (
    _rule(
        Role.VIEWER, "read", "teamspace studio job deployment experiment run model blob secret budget bill"
    ),
    _rule(Role.VIEWER, "read", "member ledger"),
    _rule(Role.MEMBER, "create update delete", "studio job deployment experiment run model blob secret"),
    # operate: start, stop, restart. shell: a command, a terminal, files or a port inside a workload.
    _rule(Role.MEMBER, "operate shell", "studio job deployment"),
    _rule(Role.MEMBER, "use", "deployment"),
    _rule(Role.MEMBER, "reveal", "secret"),
    _rule(Role.OWNER, "create update delete", "budget member"),
    _rule(Role.OWNER, "read", "audit"),
)
"""Rights inside a teamspace. `use` sends requests to a deployment, `reveal` reads a secret's value."""

SELF_RULES: frozenset[tuple[str, str]] = frozenset(
    {("read", "self"), ("read", "machine"), ("read", "change"), ("read", "token"), ("read", "teamspaces")}
)
"""What everybody who is signed in may do outside a teamspace, workloads included."""

USER_RULES: frozenset[tuple[str, str]] = frozenset(
    {("create", "token"), ("delete", "token"), ("create", "ticket"), ("create", "teamspace")}
)
"""What a user with a full token may do outside a teamspace; tokens of narrower scope may not."""

ADMIN_RULES: frozenset[tuple[str, str]] = frozenset(
    {("create", "user"), ("read", "user"), ("verify", "audit"), ("operate", "server"), ("read", "server")}
)
"""What administrators of the server may do outside a teamspace."""

_BY_RIGHT: dict[tuple[str, str], Role] = {
    (action, kind): rule.role for rule in RULES for action in rule.actions for kind in rule.kinds
}


def permitted(role: Role, action: str, kind: str) -> bool:
    """Return whether `role` may do `action` to `kind` in its teamspace."""
    needed = _BY_RIGHT.get((action, kind))
    return needed is not None and role >= needed


def needed_role(action: str, kind: str) -> Role | None:
    """Return the lowest role with this right, None when no role has it."""
    return _BY_RIGHT.get((action, kind))


def declared(action: str, kind: str) -> bool:
    """Return whether any rule speaks of this action and kind; a route that asks for another is a mistake."""
    right = (action, kind)
    return right in _BY_RIGHT or right in SELF_RULES or right in USER_RULES or right in ADMIN_RULES
