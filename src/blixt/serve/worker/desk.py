"""Where a request is opened: its body read, its context made, its `decode_request` called."""

from collections.abc import Callable
from typing import Any

import msgspec

from blixt.serve.api import CONTEXT_FIELDS
from blixt.serve.handoff import unpack
from blixt.serve.plan import Plan
from blixt.serve.request import Meta
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.inbox import Context, Inbox

_REQUEST, _SLAB = int(Kind.REQUEST), int(Kind.SLAB)
_meta = msgspec.json.Decoder(Meta)


class Desk:
    """Opens the requests of one worker.

    Args:
        plan: The API's.
        inbox: Where the requests' metas lie.
        is_unwanted: Tells `context.cancelled`; by default the inbox is looked at.
    """

    def __init__(self, plan: Plan, inbox: Inbox, is_unwanted: Callable[[int], bool] | None = None) -> None:
        self._plan = plan
        self._inbox = inbox
        self._body = inbox.channel.body
        self._read = plan.read
        self._is_unwanted = is_unwanted or inbox.is_unwanted
        self._decode = None if plan.decode is None or plan.decode.is_async else plan.decode.call
        self._fields = [name for name in CONTEXT_FIELDS if name in plan.api.context_fields]

    def open(self, message: Message) -> tuple[Any, Context | None]:
        """A request as `predict` (or `batch`) wants it, and its context if any hook wants one.

        Raises:
            HTTPError: The body does not fit. Hooks raise what they like.
        """
        value, context = self.read(message)
        if self._decode is not None:
            value = self._decode(value, context)
        return value, context

    def read(self, message: Message) -> tuple[Any, Context | None]:
        """A request as `decode_request` wants it, and its context."""
        id, kind, body = message
        packed = self._inbox.meta(id)
        meta = None if packed is None else _meta.decode(packed)
        if kind == _REQUEST:
            value = self._read(body, meta)
        elif kind == _SLAB:
            value = self._read(self._body(message), meta)
        else:
            value = unpack(body)
        return value, self.context(id, meta) if self._plan.wants_context else None

    def context(self, id: int, meta: Meta | None) -> Context:
        """A fresh context of one request."""
        fields: dict[str, Any] = {}
        if self._fields:
            meta = meta or Meta()
            for name in self._fields:
                value = getattr(meta, name)
                fields[name] = dict(value) if name == "headers" else value
        is_unwanted = self._is_unwanted
        return Context(fields, lambda: is_unwanted(id))
