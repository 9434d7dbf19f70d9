"""The agent: the first process of every allocation, the cloud's hands inside it.

It dials out to the server over one WebSocket and carries everything over it in credit-controlled channels:
commands, terminals, logs, files, ports. It keeps running, and keeps what it knows, while the server is away.

`python -m blixt.cloud.agent SETTINGS` starts it. The server's half of the conversation is `blixt.cloud.hub`;
both share `protocol` (the frames) and `mux` (the channels).
"""

from blixt.cloud.agent.channel import Channel, ChannelClosed, RemoteError
from blixt.cloud.agent.mux import Mux

__all__ = ["Channel", "ChannelClosed", "Mux", "RemoteError"]
