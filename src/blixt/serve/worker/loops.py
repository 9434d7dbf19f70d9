"""The plain loops of a worker, one by one and by batches, and the choice among all loops."""

from typing import Any

from blixt.serve.plan import Answer, Plan
from blixt.serve.plan_mode import Mode
from blixt.serve.wire import Message
from blixt.serve.worker.channel import Channel
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.inbox import Context, Inbox
from blixt.serve.worker.outside import connect


def run(plan: Plan, channel: Channel) -> None:
    """Serve until the front closes the channel (`FrontGone`)."""
    match plan.mode:
        case Mode.SINGLES:
            serve_singles(plan, channel)
        case Mode.BATCHES:
            serve_batches(plan, channel)
        case Mode.STREAMS:
            from blixt.serve.worker.streams import Streams

            Streams(plan, channel).run()
        case Mode.BATCHED_STREAMS:
            from blixt.serve.worker.batched_streams import BatchedStreams

            BatchedStreams(plan, channel).run()
        case Mode.CONTINUOUS:
            from blixt.serve.worker.continuous import Continuous

            Continuous(plan, channel).run()
        case Mode.ASYNC:
            from blixt.serve.worker.aio import run_async

            run_async(plan, channel)
        case Mode.CUSTOM:
            plan.api.loop.run(plan, channel)


def serve_singles(plan: Plan, channel: Channel) -> None:
    """One request after the other."""
    inbox = Inbox(channel)
    desk = Desk(plan, inbox)
    connect(plan, inbox)
    while True:
        inbox.fill(block=True)
        channel.rest()
        while inbox.frames:
            message = inbox.take_one()
            if message is not None:
                kind, payload = answer_one(plan, desk, message)
                channel.answer(message[0], kind, payload)
                inbox.done(message[0])
            if channel.flush_if_slow():
                inbox.fill(block=False)
        channel.flush()


def answer_one(plan: Plan, desk: Desk, message: Message) -> Answer:
    """One request through all hooks."""
    try:
        value, context = desk.open(message)
        output = plan.predict.call(value, context)
        if plan.encode is not None:
            output = plan.encode.call(output, context)
        return plan.answer(message[1], output)
    except Exception as error:
        return plan.failure(error)


def serve_batches(plan: Plan, channel: Channel) -> None:
    """One frame of requests is one batch: the front has decided what belongs together."""
    inbox = Inbox(channel)
    desk = Desk(plan, inbox)
    connect(plan, inbox)
    while True:
        inbox.fill(block=True)
        channel.rest()
        while inbox.frames:
            answer_batch(plan, desk, channel, inbox.take())
            channel.flush()
            inbox.fill(block=False)


class Batch:
    """The requests of a batch that could be opened; the others are answered already."""

    def __init__(self, plan: Plan, desk: Desk, channel: Channel, messages: list[Message]) -> None:
        self.messages: list[Message] = []
        self.inputs: list[Any] = []
        self.contexts: list[Context | None] = []
        for message in messages:
            try:
                value, context = desk.open(message)
            except Exception as error:
                channel.answer(message[0], *plan.failure(error))
                continue
            self.messages.append(message)
            self.inputs.append(value)
            self.contexts.append(context)

    def fail(self, plan: Plan, channel: Channel, error: BaseException) -> None:
        """Answer every request with the same error."""
        answer = plan.failure(error)
        for message in self.messages:
            channel.answer(message[0], *answer)


def answer_batch(plan: Plan, desk: Desk, channel: Channel, messages: list[Message]) -> None:
    """One batch through all hooks."""
    batch = Batch(plan, desk, channel, messages)
    if not batch.messages:
        return
    try:
        assert plan.batch is not None
        assert plan.unbatch is not None
        joined = plan.batch.call(batch.inputs, batch.contexts)
        output = plan.predict.call(joined, batch.contexts)
        outputs = outputs_of(plan, output, plan.unbatch.call(output, batch.contexts), len(batch.messages))
    except Exception as error:
        batch.fail(plan, channel, error)
        return
    encode = plan.encode
    for message, output, context in zip(batch.messages, outputs, batch.contexts, strict=True):
        try:
            if encode is not None:
                output = encode.call(output, context)
            channel.answer(message[0], *plan.answer(message[1], output))
        except Exception as error:
            channel.answer(message[0], *plan.failure(error))


def outputs_of(plan: Plan, output: Any, split: Any, count: int) -> list[Any]:
    """What `unbatch` made of a batch's output, checked.

    Raises:
        ValueError: It does not fit the batch.
    """
    if isinstance(output, str | dict | set):
        warn_unordered(plan.name, output)
    outputs: list[Any] = split if split.__class__ is list else list(split)
    if len(outputs) != count:
        raise ValueError(
            f"{plan.name} made {len(outputs)} outputs of a batch of {count}: predict (or unbatch) must "
            "return one output for each input, in order"
        )
    return outputs


def warn_unordered(name: str, output: Any) -> None:
    """A string or a dict can be cut into as many pieces as there are inputs, and be wrong all the same."""
    import warnings

    warnings.warn(
        f"{name}.predict returned a {type(output).__name__} for a batch; it is split item by item, which is "
        "hardly what you mean: return a list with one output for each input.",
        stacklevel=2,
    )
