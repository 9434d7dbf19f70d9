"""Examples through a worker's own loop, in this process: to warm a model up, or to try an API."""

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure, SetupFailed
from blixt.serve.page import Page
from blixt.serve.plan import Plan
from blixt.serve.wire import FINAL, FrameReader, Kind, Message, encode
from blixt.serve.worker.channel import Channel, FrontGone
from blixt.serve.worker.loops import run

_failure = msgspec.json.Decoder(Failure)


@dataclass(slots=True)
class Answered:
    """What came of one example."""

    kind: int = Kind.END
    payload: bytes = b""
    pieces: list[bytes] = field(default_factory=list[bytes])


def rehearse(plan: Plan, examples: Sequence[Any], kind: int = Kind.REQUEST) -> list[Answered]:
    """Let a plan's loop answer examples, batched as a full server would.

    Args:
        plan: The API's; its `setup` has run.
        examples: Bodies: `bytes`, or JSON-able values.
        kind: PASS for a pipeline's later stages.

    Raises:
        SetupFailed: An example was answered with an error.
    """
    near, far = socket.socketpair()
    front = _Front(near, plan, [_body(example) for example in examples], kind)
    player = threading.Thread(target=front.play, name="rehearsal")
    player.start()
    try:
        run(plan, Channel(far, Page.create()))
    except FrontGone:
        pass
    finally:
        far.close()
        player.join()
        near.close()
    for number, answered in enumerate(front.answers):
        if answered.kind == Kind.ERROR:
            failure = _failure.decode(answered.payload)
            raise SetupFailed(
                f"{plan.name} answered its example {number} with {failure.status}: {failure.detail}. "
                "The log above says more if it was an exception."
            )
    return front.answers


class _Front:
    """Sends the examples, collects the answers, and closes."""

    def __init__(self, sock: socket.socket, plan: Plan, bodies: list[bytes], kind: int) -> None:
        self.answers = [Answered() for _ in bodies]
        self._sock = sock
        self._size = plan.policy.max_batch_size
        self._bodies = bodies
        self._kind = kind
        self._reader = FrameReader()

    def play(self) -> None:
        try:
            for start in range(0, len(self._bodies), self._size):
                group = range(start, min(start + self._size, len(self._bodies)))
                self._sock.sendall(encode([(i + 1, self._kind, self._bodies[i]) for i in group]))
                left = len(group)
                while left:
                    left -= self._take()
        except ConnectionError:
            return  # the loop has ended with an error, which is told there
        finally:
            self._sock.shutdown(socket.SHUT_RDWR)

    def _take(self) -> int:
        """Read some messages; how many examples they finish."""
        data = self._sock.recv(1 << 18)
        if not data:
            raise ConnectionError
        finished = 0
        for frame in self._reader.feed(data):
            for message in frame.messages:
                finished += self._note(message)
        return finished

    def _note(self, message: Message) -> bool:
        id, kind, payload = message
        if kind == Kind.CALL:
            failure = Failure(503, "Other APIs cannot be called while examples are tried.")
            result = bytes((Kind.ERROR,)) + msgspec.json.encode(failure)
            self._sock.sendall(encode([(id, Kind.RESULT, result)]))
        elif kind == Kind.CHUNK:
            self.answers[id - 1].pieces.append(payload)
        elif kind in FINAL:
            self.answers[id - 1].kind, self.answers[id - 1].payload = kind, payload
            return True
        return False


def _body(example: Any) -> bytes:
    return example if isinstance(example, bytes) else to_json(example)
