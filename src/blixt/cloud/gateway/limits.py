"""Every bound of the gateway in one place; units are in the names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of anything one client, one request or one replica may take.

    Memory of one connection is bounded by about `buffer_bytes` in each direction plus `head_bytes`.
    """

    head_bytes: int = 64 * 1024
    header_count: int = 128
    target_bytes: int = 16 * 1024
    buffer_bytes: int = 256 * 1024
    replay_bytes: int = 256 * 1024
    connections: int = 4096

    head_s: float = 15.0
    idle_s: float = 75.0
    body_idle_s: float = 60.0
    stall_s: float = 120.0
    linger_s: float = 2.0
    half_closed_s: float = 1.0
    response_s: float = 900.0
    connect_s: float = 10.0

    upstream_idle_s: float = 3.0
    upstream_idle_count: int = 64

    ticket_s: float = 60.0
    session_s: float = 24 * 3600.0
    session_count: int = 10_000
    trust_cache_s: float = 2.0
    suspect_s: float = 2.0
    recover_s: float = 15.0
    arrival_s: float = 1.0
    trust_forwarded: bool = False
