from client.fixtures import client, server, teamspace

__all__ = ["client", "server", "teamspace"]
