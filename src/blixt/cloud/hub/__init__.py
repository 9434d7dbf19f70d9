"""The hub: the server's side of every agent's connection.

Agents dial in; the hub knows which are there and what each said last, opens operations on them, copies their
logs to the data folder byte for byte, and gives the gateway streams to ports inside allocations.
"""

from blixt.cloud.hub.hub import AgentGone, Attached, Hub
from blixt.cloud.hub.logs import LogStore
from blixt.cloud.hub.stream import ChannelStream
from blixt.cloud.hub.tail import Tail

__all__ = ["AgentGone", "Attached", "ChannelStream", "Hub", "LogStore", "Tail"]
