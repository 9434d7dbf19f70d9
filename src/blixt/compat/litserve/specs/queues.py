"""How a spec's endpoints ask workers, and hear from them: LitServe's queues on top of blixt's hub.

An endpoint leaves a `ResponseBufferItem` in the response buffer and puts its request into the queue. The
request goes to the hub at once; what comes of it is put into that item, and its event is set. A stream that
nobody reads any more is cancelled, and one that is read slowly is held.
"""

import asyncio
import base64
import logging
import pickle
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import HTTPException

from blixt.serve import Spec
from blixt.serve.errors import Failure
from blixt.serve.handoff import discard, pack, unpack
from blixt.serve.request import Rejected
from blixt.serve.wire import Kind

from ..app import LATE
from ..callbacks import Callback, CallbackRunner
from ..callbacks.base import EventTypes
from ..pieces import UNHANDLED
from ..status import LitAPIStatus

if TYPE_CHECKING:
    from blixt.serve import API, Endpoint
    from blixt.serve.service import Running

    from ..api import LitAPI

HIGH_WATER = 64
_failure = msgspec.json.Decoder(Failure)
logger = logging.getLogger(__name__)


class Queued(Spec):
    """For blixt: a spec without routes of its own, whose requests come out of a queue as Python values."""

    def __init__(self, path: str, streams: bool) -> None:
        self._path = path
        self.streams = streams

    def endpoints(self) -> "list[Endpoint]":
        """None: the app has them as FastAPI's."""
        return []

    @property
    def label(self) -> str:
        """The LitAPI's path."""
        return self._path


def carried(data: Any) -> Any:
    """A piece of any kind as JSON can carry it."""
    return data if isinstance(data, str) else {"pickle": base64.b64encode(pickle.dumps(data, 5)).decode()}


def uncarried(payload: bytes) -> Any:
    """The piece again."""
    value = msgspec.json.decode(payload)
    return value if isinstance(value, str) else pickle.loads(base64.b64decode(value["pickle"]))


class ResponseBuffer(dict[Any, Any]):
    """`ResponseBufferItem`s by uid; knows which of them a queue of pieces belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self._uids: dict[int, Any] = {}

    def __setitem__(self, uid: Any, item: Any) -> None:
        super().__setitem__(uid, item)
        if item.response_queue is not None:
            self._uids[id(item.response_queue)] = uid

    def __reduce__(self) -> Any:
        """Nobody waits in another process."""
        return (ResponseBuffer, ())

    def forget(self, queue: "deque[Any]") -> None:
        """A stream is over."""
        self.pop(self._uids.pop(id(queue), None), None)

    def uid_of(self, queue: "deque[Any]") -> Any:
        """Whose pieces a queue holds."""
        return self._uids.get(id(queue))


class Question:
    """One request at work: the hub's sink, which fills the item in the buffer.

    Args:
        office: Where it was asked.
        uid: Which item is its own.
        running: The API that answers.
    """

    def __init__(self, office: "SpecServer", uid: Any, running: "Running") -> None:
        self._office = office
        self._uid = uid
        self._running = running
        self._began = time.monotonic()
        self._ticket: Any = None
        self._held = False

    def submit(self, request: Any) -> None:
        """Ask; a refusal is told like an answer."""
        try:
            self._ticket = self._running.pool.hub.submit(pack(request), self, kind=Kind.VALUE)
        except Rejected as rejected:
            refusal = msgspec.json.encode(rejected.failure)
            asyncio.get_running_loop().call_soon(self.deliver, Kind.ERROR, refusal)

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: a piece, an answer or an error."""
        item = self._office.response_buffer.get(self._uid)
        if kind == Kind.CHUNK:
            self._put(item, uncarried(payload), LitAPIStatus.OK)
            return
        self._office.answered(self._uid)
        status, value = 200, None
        if kind == Kind.PACKED:
            value = unpack(payload)
            discard(payload)
            self._put(item, value, LitAPIStatus.OK)
        elif kind == Kind.ERROR:
            failure = _failure.decode(payload)
            status, value = failure.status, http_exception(failure)
            self._put(item, value, LitAPIStatus.ERROR)
        else:
            self._put(item, "", LitAPIStatus.FINISH_STREAMING)
        self._running.metrics.answered(status, time.monotonic() - self._began)

    def go_on(self) -> None:
        """The stream's reader has caught up."""
        if self._held:
            self._held = False
            self._running.pool.hub.resume(self._ticket)

    def cancel(self) -> None:
        """Nobody reads the stream any more."""
        if self._ticket is not None:
            self._running.pool.hub.cancel(self._ticket)

    def _put(self, item: Any, value: Any, status: str) -> None:
        if item is None:
            return  # an endpoint that does not wait for its answer
        if item.response_queue is None:
            item.response = (value, status)
        else:
            item.response_queue.append((value, status))
            if len(item.response_queue) >= HIGH_WATER and not self._held:
                self._held = True
                self._running.pool.hub.pause(self._ticket)
        item.event.set()


class RequestQueue:
    """Where a spec's endpoints put `(response_queue_id, uid, time.monotonic(), request)`."""

    def __init__(self, put: "Callable[[Any, Any], None]") -> None:
        self._ask = put

    def put(self, item: tuple[Any, Any, float, Any], *args: Any, **kwargs: Any) -> None:
        """Send a request to the workers; call it in the event loop."""
        _, uid, _, request = item
        self._ask(uid, request)

    put_nowait = put

    def __reduce__(self) -> Any:
        """A worker's copy of a spec has no use for it."""
        return (RequestQueue, (_nowhere,))


class SpecServer:
    """The server as a spec sees it: its queues and what it was told. One in each front process.

    Args:
        apis: blixt's APIs, as the service knows them.
        callbacks: LitServe's.
        facts: Arguments of the server that specs may look at; they become attributes.

    Attributes:
        response_buffer: See `LitSpec`.
        lit_api: The first LitAPI.
    """

    def __init__(self, apis: "Sequence[API]", callbacks: "Sequence[Callback]", **facts: Any) -> None:
        self._apis = [api for api in apis if isinstance(api.spec, Queued)]
        self._facts = facts
        self._callback_runner = _Told(callbacks)
        self._open()

    def _open(self) -> None:
        self.response_buffer = ResponseBuffer()
        self._questions: dict[Any, Question] = {}
        self._find: Callable[[API], Running] | None = None
        self._is_set_up = False

    def __getstate__(self) -> dict[str, Any]:
        """Another process begins with nothing under way."""
        return {"_apis": self._apis, "_facts": self._facts, "_callback_runner": self._callback_runner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __getattr__(self, name: str) -> Any:
        facts = vars(self).get("_facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"A LitSpec's server has no {name!r}.")

    def set_up(self) -> None:
        """Let every spec take its queues; once a process."""
        if self._is_set_up:
            return
        self._is_set_up = True
        for api in self._apis:
            spec: Any = lit_of(api).spec
            spec.response_queue_id = 0
            spec._server = self
            spec.setup(self)
            lit_of(api).freeze_spec()

    def connect(self, app: Any, find: "Callable[[API], Running]") -> None:
        """Put the specs' endpoints into an app, in front of what `find` gives."""
        from fastapi import Depends

        self._find = find
        self.set_up()
        for api in self._apis:
            lit = lit_of(api)
            assert lit.spec is not None
            authorize = getattr(lit, "authorize", None)
            guards = [] if authorize is None else [Depends(authorize)]
            for path, endpoint, methods in lit.spec.endpoints:
                app.add_api_route(path, endpoint, methods=methods, dependencies=guards)

    @property
    def lit_api(self) -> "LitAPI":
        """The first LitAPI that has such a spec."""
        return lit_of(self._apis[0])

    @property
    def active_requests(self) -> int | None:
        """Requests under way that came through specs, if the server tracks requests."""
        return len(self._questions) if self._facts.get("track_requests") else None

    def _get_request_queue(self, api_path: str | None) -> RequestQueue:
        """The queue of a LitAPI.

        Raises:
            KeyError: No LitAPI with such a spec has this path.
        """
        for api in self._apis:
            if lit_of(api).api_path == api_path:
                return RequestQueue(partial(self._ask, api))
        raise KeyError(api_path)

    async def data_streamer(
        self, q: "deque[Any]", data_available: asyncio.Event, send_status: bool = False
    ) -> AsyncIterator[Any]:
        """The pieces that a queue gets, until their end or an error, which only `send_status` shows.

        Args:
            q: The `response_queue` of an item in the buffer.
            data_available: The item's event.
            send_status: Yield `(piece, status)`.
        """
        uid = self.response_buffer.uid_of(q)
        try:
            while True:
                await data_available.wait()
                while q:
                    piece, status = q.popleft()
                    if status == LitAPIStatus.FINISH_STREAMING:
                        return
                    if status == LitAPIStatus.ERROR and not send_status:
                        logger.error("a stream failed: %s", piece)
                        return
                    yield (piece, status) if send_status else piece
                    if status == LitAPIStatus.ERROR:
                        return
                data_available.clear()
                if uid in self._questions:
                    self._questions[uid].go_on()
        finally:
            self.response_buffer.forget(q)
            question = self._questions.pop(uid, None)
            if question is not None:
                question.cancel()

    def answered(self, uid: Any) -> None:
        """A request has its answer."""
        self._questions.pop(uid, None)

    def _ask(self, api: "API", uid: Any, request: Any) -> None:
        if self._find is None:
            raise RuntimeError("The request queue takes requests only while the server runs.")
        question = self._questions[uid] = Question(self, uid, self._find(api))
        question.submit(request)


class _Told(CallbackRunner):
    """The server's callbacks, but for what blixt tells them itself: that a request came, or is answered."""

    def trigger_event(self, event_name: str, *args: Any, **kwargs: Any) -> None:
        """Tell every callback of an event that a spec triggers."""
        if event_name not in (EventTypes.ON_REQUEST.value, EventTypes.ON_RESPONSE.value):
            super().trigger_event(event_name, *args, **kwargs)


def http_exception(failure: Failure) -> HTTPException:
    """A failure as endpoints raise it."""
    if failure.status == 500 and failure.detail == UNHANDLED:
        return HTTPException(500)
    detail = LATE if failure.status == 504 else failure.detail
    return HTTPException(failure.status, detail, failure.headers or None)


def lit_of(api: Any) -> "LitAPI":
    """The LitAPI of an adapter."""
    return api.lit


def _nowhere(uid: Any, request: Any) -> None:
    raise RuntimeError("Requests are put into the queue where HTTP is answered, not in a worker.")
