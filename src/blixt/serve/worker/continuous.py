"""Continuous batching: requests join and leave a running batch between its steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import FRONT_SHIFT, Channel
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Context, Inbox
from blixt.serve.worker.outside import connect


@dataclass
class Output:
    """What a step made for one request.

    Args:
        uid: The request's, as `add_request` got it.
        output: One piece, as `encode_response` wants it; None: no piece in this step.
        finished: The request's last output.
        error: The request failed; answered like an exception.
    """

    uid: str
    output: Any = None
    finished: bool = False
    error: BaseException | None = None


class Continuous:
    """The loop of an API with `add_request(uid, request)`, `step(previous)`, `has_capacity()` and
    `has_active_requests()`; it is asked for room before requests are added and stepped while any are active.

    If the API has `remove_request(uid)` it is called when a client has left. An API with
    `predict(inputs, generated)` and `has_finished(uid, token, max_sequence_length)` instead is stepped by us.
    """

    def __init__(self, plan: Plan, channel: Channel) -> None:
        self._plan = plan
        self._channel = channel
        self._inbox = Inbox(channel, self._control)
        self._desk = Desk(plan, self._inbox)
        self._model: Any = plan.api if callable(getattr(plan.api, "step", None)) else Sequences(plan.api)
        self._ids: dict[str, int] = {}
        self._contexts: dict[str, Context | None] = {}
        self._paused: set[int] = set()
        connect(plan, self._inbox)

    def run(self) -> None:
        """Serve until the front has gone."""
        inbox, channel, model = self._inbox, self._channel, self._model
        previous: list[Any] | None = None
        while True:
            active = model.has_active_requests()
            held = bool(self._paused) and len(self._paused) == len(self._ids)
            idle = (not active or held) and not inbox.frames
            inbox.fill(block=idle)
            if idle:
                channel.rest()
            while inbox.frames and model.has_capacity():
                self._admit()
            if model.has_active_requests():
                channel.flush_pending()  # who was refused, or has left, must not wait for the step
                previous = self._step(previous)
            channel.flush()

    def _admit(self) -> None:
        message = self._inbox.take_one()
        if message is None:
            return
        uid = str(message[0])
        try:
            value, context = self._desk.open(message)
            self._model.add_request(uid, value)
        except Exception as error:
            self._channel.answer(message[0], *self._plan.failure(error))
            return
        self._ids[uid], self._contexts[uid] = message[0], context

    def _step(self, previous: list[Any] | None) -> list[Any] | None:
        self._inbox.current = list(self._ids.values())
        try:
            outputs: list[Any] = list(self._model.step(previous))
        except Exception as error:
            self._fail_all(error)
            return None
        for output in outputs:
            self._send(output)
        return outputs

    def _send(self, output: Output) -> None:
        id = self._ids.get(output.uid)
        if id is None:
            return  # its client has left
        error = output.error
        if error is None and output.output is not None:
            try:
                encode, value = self._plan.encode, output.output
                if encode is not None:
                    value = encode.call(value, self._contexts[output.uid])
                self._channel.answer(id, Kind.CHUNK, to_json(value))
            except Exception as raised:
                error = raised
        if error is not None:
            self._channel.answer(id, *self._plan.failure(error))
            self._forget(output.uid, remove=not output.finished)
        elif output.finished:
            self._channel.answer(id, Kind.END)
            self._forget(output.uid, remove=False)

    def _fail_all(self, error: Exception) -> None:
        answer = self._plan.failure(error)
        for uid, id in list(self._ids.items()):
            self._channel.answer(id, *answer)
            self._forget(uid, remove=True)

    def _forget(self, uid: str, *, remove: bool) -> None:
        id = self._ids.pop(uid)
        self._contexts.pop(uid)
        self._paused.discard(id)
        self._inbox.done(id)
        if remove and callable(getattr(self._model, "remove_request", None)):
            self._model.remove_request(uid)

    def _control(self, id: int, kind: int, payload: bytes) -> None:
        if kind == Kind.PAUSE and str(id) in self._ids:
            self._paused.add(id)
        elif kind == Kind.RESUME:
            self._paused.discard(id)
        elif kind == Kind.CANCEL and str(id) in self._ids:
            self._channel.answer(id, Kind.END)
            self._channel.flush()  # the next step, which would take it along, may be long in coming
            self._forget(str(id), remove=True)
        elif kind == Kind.CANCEL and not id & 0xFFFF_FFFF:
            for uid in [u for u, i in self._ids.items() if i >> FRONT_SHIFT == id >> FRONT_SHIFT]:
                self._forget(uid, remove=True)


@dataclass
class _Sequence:
    request: Any
    generated: list[Any] = field(default_factory=list[Any])


class Sequences:
    """Steps an API that only knows how to predict every sequence's next token.

    Args:
        api: Has `predict(inputs, generated) -> next tokens` and `has_finished(uid, token, max_length)`.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._max_length = int(getattr(api, "max_sequence_length", 2048))
        self._capacity = api.max_batch_size if api.max_batch_size > 1 else api.max_streams
        self._sequences: dict[str, _Sequence] = {}

    def add_request(self, uid: str, request: Any) -> None:
        """A sequence joins."""
        self._sequences[uid] = _Sequence(request)

    def remove_request(self, uid: str) -> None:
        """A sequence leaves early."""
        self._sequences.pop(uid, None)

    def has_capacity(self) -> bool:
        """Whether another may join."""
        return len(self._sequences) < self._capacity

    def has_active_requests(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._sequences)

    def step(self, previous: Sequence[Output] | None) -> list[Output]:
        """One token for each sequence; those that are finished leave."""
        uids = list(self._sequences)
        sequences = list(self._sequences.values())
        tokens = self._api.predict([s.request for s in sequences], [s.generated for s in sequences])
        outputs: list[Output] = []
        for uid, sequence, token in zip(uids, sequences, tokens, strict=True):
            sequence.generated.append(token)
            done = self._api.has_finished(uid, token, self._max_length)
            if done or len(sequence.generated) >= self._max_length:
                del self._sequences[uid]
                outputs.append(Output(uid, None if done else token, finished=True))
            else:
                outputs.append(Output(uid, token))
        return outputs
