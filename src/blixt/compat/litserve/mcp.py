"""MCP: a LitAPI as a tool."""

from typing import Any


class MCP:
    """Offers a LitAPI as a tool at `/mcp/`.

    Args:
        name: The tool's name.
        description: What it does, for the model that chooses among tools.
        input_schema: JSON schema of its input; made from `decode_request`'s annotation if None.
    """

    def __init__(
        self,
        name: str | None = None,
        description: str | None = None,
        input_schema: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.input_schema = input_schema

    def wire(self) -> Any:
        """The same as blixt's."""
        from blixt.serve import MCP as BlixtMCP

        return BlixtMCP(
            name=self.name or "", description=self.description or "", input_schema=self.input_schema
        )
