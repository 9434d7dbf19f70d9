"""Who is asking, and what they may do: users, teamspaces, roles, tokens, secrets and the audit log."""

from blixt.cloud.identity.audit import Audit, AuditEntry, Verdict
from blixt.cloud.identity.bootstrap import bootstrap
from blixt.cloud.identity.identity import Identity
from blixt.cloud.identity.people import Member, People
from blixt.cloud.identity.principal import Principal
from blixt.cloud.identity.roles import RULES, Role, Rule, permitted
from blixt.cloud.identity.secrets import Secrets
from blixt.cloud.identity.tokens import IssuedToken, TokenInfo, Tokens

__all__ = [
    "RULES",
    "Audit",
    "AuditEntry",
    "Identity",
    "IssuedToken",
    "Member",
    "People",
    "Principal",
    "Role",
    "Rule",
    "Secrets",
    "TokenInfo",
    "Tokens",
    "Verdict",
    "bootstrap",
    "permitted",
]
