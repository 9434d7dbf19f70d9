"""Secret: a value that workloads receive as an environment variable and lists never show."""

from blixt.client.client import Client, default_client
from blixt.client.resource import Resource


class Secret(Resource):
    """A secret of the teamspace, encrypted at rest.

    Example:
        >>> from blixt.client import Secret
        >>> Secret.set("hf-token", "hf_...")          # doctest: +SKIP
        Secret('hf-token')
    """

    kind = "secret"
    plural = "secrets"

    @classmethod
    def set(cls, name: str, value: str, *, client: Client | None = None) -> "Secret":
        """Store a value, replacing the one before."""
        client = client or default_client()
        client.http.json("PUT", client.path(cls.plural, name), body={"value": value})
        return cls.get(name, client=client)

    def value(self) -> str:
        """Read the value; the audit log records that you did."""
        return str(self.client.http.json("GET", self._path("value"))["value"])
