"""The three loops of a worker: one by one, by batches, and streams side by side."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.plan import Context, Plan
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.channel import Channel


def run(plan: Plan, channel: Channel) -> None:
    """Serve until the front closes the channel (`FrontGone`)."""
    if plan.policy.max_streams:
        serve_streams(plan, channel)
    elif plan.policy.batched:
        serve_batches(plan, channel)
    else:
        serve_singles(plan, channel)


class Inbox:
    """Requests not begun yet, without those that were cancelled on the way."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.frames: deque[list[Message]] = deque()
        self._cancelled: set[int] = set()

    def fill(self, block: bool) -> None:
        """Take what has arrived; a CANCEL counts only for requests still waiting here."""
        for messages in self._channel.receive(block):
            requests = [m for m in messages if m.kind == Kind.REQUEST]
            if requests:
                self.frames.append(requests)
            self._cancelled.update(m.id for m in messages if m.kind == Kind.CANCEL)
        if self._cancelled:
            self._cancelled &= {m.id for frame in self.frames for m in frame}

    def take(self) -> list[Message]:
        """The next frame's live requests, marked as begun; cancelled ones are answered END."""
        frame = self.frames.popleft()
        self._channel.begin(len(frame))
        return [message for message in frame if not self._drop(message)]

    def take_one(self) -> Message | None:
        """The next request, marked as begun, or None if it was cancelled."""
        frame = self.frames[0]
        message = frame.pop(0)
        if not frame:
            self.frames.popleft()
        self._channel.begin()
        return None if self._drop(message) else message

    def _drop(self, message: Message) -> bool:
        if message.id not in self._cancelled:
            return False
        self._cancelled.discard(message.id)
        self._channel.answer(message.id, Kind.END)
        return True


def serve_singles(plan: Plan, channel: Channel) -> None:
    """One request after the other."""
    inbox = Inbox(channel)
    while True:
        inbox.fill(block=True)
        channel.rest()
        while inbox.frames:
            message = inbox.take_one()
            if message is not None:
                context: Context = {}
                try:
                    output = plan.predict(plan.start(message.payload, context), context)
                    kind, payload = plan.finish(output, context)
                except Exception as error:
                    kind, payload = plan.failure(error)
                channel.answer(message.id, kind, payload)
            if channel.flush_if_slow():
                inbox.fill(block=False)
        channel.flush()


def serve_batches(plan: Plan, channel: Channel) -> None:
    """One frame of requests is one batch: the front has decided what belongs together."""
    inbox = Inbox(channel)
    while True:
        inbox.fill(block=True)
        channel.rest()
        while inbox.frames:
            _serve_batch(plan, channel, inbox.take())
            channel.flush()
            inbox.fill(block=False)


def _serve_batch(plan: Plan, channel: Channel, messages: list[Message]) -> None:
    ids: list[int] = []
    inputs: list[Any] = []
    contexts: list[Context] = []
    for message in messages:
        context: Context = {}
        try:
            inputs.append(plan.start(message.payload, context))
        except Exception as error:
            channel.answer(message.id, *plan.failure(error))
            continue
        ids.append(message.id)
        contexts.append(context)
    if not ids:
        return
    try:
        outputs = _predict_batch(plan, inputs, contexts)
    except Exception as error:
        answer = plan.failure(error)
        for id in ids:
            channel.answer(id, *answer)
        return
    for id, output, context in zip(ids, outputs, contexts, strict=True):
        try:
            channel.answer(id, *plan.finish(output, context))
        except Exception as error:
            channel.answer(id, *plan.failure(error))


def _predict_batch(plan: Plan, inputs: list[Any], contexts: list[Context]) -> list[Any]:
    output = plan.predict(plan.batch(inputs, contexts), contexts)
    outputs = list(plan.unbatch(output, contexts))
    if len(outputs) != len(inputs):
        raise ValueError(
            f"{plan.name} made {len(outputs)} outputs of a batch of {len(inputs)}: predict (or unbatch) must "
            "return one output for each input, in order"
        )
    return outputs


def serve_streams(plan: Plan, channel: Channel) -> None:
    """All live generators in turn, one piece each; one frame carries a piece of every stream."""
    inbox: deque[Message] = deque()
    live: dict[int, Iterator[Any]] = {}
    paused: set[int] = set()
    while True:
        idle = len(live) == len(paused) and not inbox
        for messages in channel.receive(block=idle):
            for message in messages:
                _control(message, inbox, live, paused, channel)
        if idle:
            channel.rest()
        while inbox:
            _open(plan, channel, inbox.popleft(), live)
        for id in [id for id in live if id not in paused]:
            _step(plan, channel, id, live)
            channel.flush_if_slow()
        channel.flush()


def _control(
    message: Message,
    inbox: deque[Message],
    live: dict[int, Iterator[Any]],
    paused: set[int],
    channel: Channel,
) -> None:
    if message.kind == Kind.REQUEST:
        inbox.append(message)
    elif message.kind == Kind.PAUSE and message.id in live:
        paused.add(message.id)
    elif message.kind == Kind.RESUME:
        paused.discard(message.id)
    elif message.kind == Kind.CANCEL:
        paused.discard(message.id)
        for waiting in [m for m in inbox if m.id == message.id]:
            inbox.remove(waiting)
            channel.begin()
            channel.answer(message.id, Kind.END)
        stream = live.pop(message.id, None)
        if stream is not None:
            _close(stream)
            channel.answer(message.id, Kind.END)


def _open(plan: Plan, channel: Channel, message: Message, live: dict[int, Iterator[Any]]) -> None:
    channel.begin()
    context: Context = {}
    try:
        request = plan.start(message.payload, context)
        output: Any = plan.predict(request, context)
        if isinstance(output, str | bytes | dict) or not hasattr(output, "__iter__"):
            output = [output]  # a plain answer is a stream of one piece
        live[message.id] = iter(plan.encode_stream((request, output), context))
    except Exception as error:
        channel.answer(message.id, *plan.failure(error))


def _step(plan: Plan, channel: Channel, id: int, live: dict[int, Iterator[Any]]) -> None:
    try:
        channel.answer(id, Kind.CHUNK, to_json(next(live[id])))
        return
    except StopIteration:
        channel.answer(id, Kind.END)
    except Exception as error:
        channel.answer(id, *plan.failure(error))
    _close(live.pop(id))


def _close(stream: Iterator[Any]) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        try:
            close()
        except Exception:
            # The client has left or has its answer: a generator that raises on close has nobody to tell.
            return
