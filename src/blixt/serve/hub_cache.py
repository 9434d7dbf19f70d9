"""Answers that may be given again: an API whose answer depends on the request alone can say for how long.

Kept in each front: a request that is answered from here costs no queue, no worker and no hook. Only whole
answers with status 200 are kept, and errors never.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from blixt.serve.request import Body, Meta, Sink
from blixt.serve.wire import Kind

KEPT = frozenset({int(Kind.OK), int(Kind.RAW)})
MAX_BODY_BYTES = 2**20  # hashing more would hold up the others
ENTRY_BYTES = 300  # what an answer takes besides its bytes
_PER_REQUEST = ("request_id", "traceparent")
Kept = tuple[int, bytes]
_meta = msgspec.json.Decoder(Meta)


class AnswerCache:
    """The last answers, oldest use first.

    Args:
        keep_s: How long an answer may be given again.
        size_bytes: What all answers may hold together.
        ignored: Fields of a request's `Meta` on which no answer depends.

    Attributes:
        used_bytes: What they hold.
    """

    def __init__(self, keep_s: float, size_bytes: int, ignored: tuple[str, ...] = _PER_REQUEST) -> None:
        self._keep_s = keep_s
        self._size_bytes = size_bytes
        self._ignored = ignored
        self.used_bytes = 0
        self._answers: OrderedDict[bytes, tuple[float, int, bytes]] = OrderedDict()  # made at, kind, payload

    def look(self, body: Body, meta: bytes | None, sink: Sink, now: float) -> tuple[Kept | None, Sink]:
        """The answer to an equal request if there is one; else a sink that keeps what comes to `sink`."""
        if len(body) > MAX_BODY_BYTES:
            return None, sink
        key = self._key(body, meta)
        found = self._answers.get(key)
        if found is None or now - found[0] > self._keep_s:
            return None, _Keeper(self, key, now, sink)
        self._answers.move_to_end(key)
        return (found[1], found[2]), sink

    def keep(self, key: bytes, made_at: float, kind: int, payload: bytes) -> None:
        """Keep an answer; those that were used longest ago make room for it."""
        before = self._answers.pop(key, None)
        self.used_bytes += _size(payload) - (0 if before is None else _size(before[2]))
        self._answers[key] = made_at, kind, payload
        while self.used_bytes > self._size_bytes:
            _, (_, _, dropped) = self._answers.popitem(last=False)
            self.used_bytes -= _size(dropped)

    def _key(self, body: Body, meta: bytes | None) -> bytes:
        digest = blake2b(len(body).to_bytes(8, "little"), digest_size=24)
        digest.update(body if isinstance(body, bytes) else body.view)
        if meta is not None:
            told = _meta.decode(meta)
            for name in self._ignored:
                setattr(told, name, "")
            digest.update(msgspec.json.encode(told))
        return digest.digest()


def _size(payload: bytes) -> int:
    return len(payload) + ENTRY_BYTES


class _Keeper:
    """A sink that keeps the answer on its way."""

    __slots__ = ("_asked_at", "_cache", "_key", "_sink")

    def __init__(self, cache: AnswerCache, key: bytes, asked_at: float, sink: Sink) -> None:
        self._cache = cache
        self._key = key
        self._asked_at = asked_at
        self._sink = sink

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the answer."""
        if kind in KEPT:
            self._cache.keep(self._key, self._asked_at, kind, payload)
        self._sink.deliver(kind, payload)


def cache_of(keep_s: float, size_bytes: int, context_fields: Sequence[str]) -> AnswerCache | None:
    """The cache of an API, if it wants one: hooks that see a field per request may answer by it."""
    if not keep_s:
        return None
    ignored = tuple(name for name in _PER_REQUEST if name not in context_fields)
    return AnswerCache(keep_s, size_bytes, ignored)
