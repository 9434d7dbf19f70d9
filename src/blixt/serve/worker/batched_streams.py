"""A batch of streams in step: `predict` gets the batch and yields, step by step, a piece for each request."""

from collections.abc import Iterator
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.channel import FRONT_SHIFT, Channel
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Inbox
from blixt.serve.worker.loops import Batch, outputs_of
from blixt.serve.worker.outside import connect
from blixt.serve.worker.streams import close_quietly


class BatchedStreams:
    """One batch at a time runs to the end of its generator; the next one waits prefetched.

    A request whose client leaves is answered at once and its pieces are dropped; when nobody is left the
    generator is closed. While a reader is behind, its whole batch waits.
    """

    def __init__(self, plan: Plan, channel: Channel) -> None:
        self._plan = plan
        self._channel = channel
        self._inbox = Inbox(channel, self._control)
        self._desk = Desk(plan, self._inbox)
        self._wanted: set[int] = set()
        self._paused: set[int] = set()
        connect(plan, self._inbox)

    def run(self) -> None:
        """Serve until the front has gone."""
        inbox, channel = self._inbox, self._channel
        while True:
            inbox.fill(block=True)
            channel.rest()
            while inbox.frames:
                self._serve(inbox.take())
                channel.flush()

    def _serve(self, messages: list[Message]) -> None:
        batch = Batch(self._plan, self._desk, self._channel, messages)
        if not batch.messages:
            return
        ids = [message[0] for message in batch.messages]
        self._wanted = set(ids)
        steps: Iterator[Any] | None = None
        try:
            steps = self._steps(batch)
            for pieces in steps:
                for id, piece in zip(ids, pieces, strict=True):
                    if id in self._wanted:
                        self._channel.answer(id, Kind.CHUNK, to_json(piece))
                self._channel.flush()
                self._inbox.fill(block=False)
                while self._paused and self._wanted:
                    self._inbox.fill(block=True)
                if not self._wanted:
                    return
            for id in self._wanted:
                self._channel.answer(id, Kind.END)
        except Exception as error:
            answer = self._plan.failure(error)
            for id in self._wanted:
                self._channel.answer(id, *answer)
        finally:
            close_quietly(steps)
            for id in ids:
                self._inbox.done(id)
            self._wanted.clear()
            self._paused.clear()

    def _steps(self, batch: Batch) -> Iterator[Any]:
        """Each step's encoded pieces, one a request."""
        plan, contexts, count = self._plan, batch.contexts, len(batch.messages)
        assert plan.batch is not None
        assert plan.unbatch is not None
        unbatch = plan.unbatch.call
        outputs = plan.predict.call(plan.batch.call(batch.inputs, contexts), contexts)
        steps = (outputs_of(plan, output, unbatch(output, contexts), count) for output in outputs)
        encode = plan.encode
        if encode is None:
            yield from steps
        elif encode.is_generator:
            yield from encode.call(steps, contexts)
        else:
            for pieces in steps:
                yield [encode.call(piece, context) for piece, context in zip(pieces, contexts, strict=True)]

    def _control(self, id: int, kind: int, payload: bytes) -> None:
        if kind == Kind.PAUSE and id in self._wanted:
            self._paused.add(id)
        elif kind == Kind.RESUME:
            self._paused.discard(id)
        elif kind == Kind.CANCEL and id in self._wanted:
            self._channel.answer(id, Kind.END)
            self._channel.flush()  # the next step, which would take it along, may be long in coming
            self._leave(id)
        elif kind == Kind.CANCEL and not id & 0xFFFF_FFFF:
            for lost in [i for i in self._wanted if i >> FRONT_SHIFT == id >> FRONT_SHIFT]:
                self._leave(lost)

    def _leave(self, id: int) -> None:
        self._wanted.discard(id)
        self._paused.discard(id)
