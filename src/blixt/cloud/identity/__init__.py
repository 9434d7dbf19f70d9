"""Who is asking, and what they may do: users, teamspaces, roles, tokens, secrets and the audit log."""
