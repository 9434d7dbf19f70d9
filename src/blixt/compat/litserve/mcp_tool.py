"""What a client of MCP is told of a tool."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ToolEndpointType:
    """A tool, and the path that its calls go to."""

    name: str
    description: str
    inputSchema: dict[str, Any]
    endpoint: str
