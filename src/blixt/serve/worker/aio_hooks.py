"""An API's hooks for the async loop: awaited if async, else called; a blocking `predict` in a thread."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.plan import Plan
from blixt.serve.plan_hooks import Hook
from blixt.serve.wire import Message
from blixt.serve.worker.desk import Desk
from blixt.serve.worker.loops import outputs_of
from blixt.serve.worker.streams import close_quietly

_DONE: Any = object()
_PLAIN: Any = (str, bytes, dict)  # iterable, but one piece all the same


class AsyncHooks:
    """The steps of a request, as coroutines.

    Only one thread runs a blocking `predict`, so that an API that was written for one request at a time stays
    right when another hook of it is async.
    """

    def __init__(self, plan: Plan, desk: Desk) -> None:
        self._plan = plan
        self._desk = desk
        self._thread = ThreadPoolExecutor(1, "predict")
        self._loop = asyncio.get_running_loop()
        decode = plan.decode
        self._decode_later = decode if decode is not None and decode.is_async else None
        predict = plan.predict
        self._predict_is_async = predict.is_async or _is_async_generator(plan)

    async def open(self, message: Message) -> tuple[Any, Any]:
        """A request as `predict` wants it, and its context."""
        value, context = self._desk.open(message)
        if self._decode_later is not None:
            value = await self._decode_later.call(value, context)
        return value, context

    async def predict(self, value: Any, context: Any) -> Any:
        """`predict`'s result."""
        return await _call(
            self._plan.predict, value, context, None if self._predict_is_async else self._thread
        )

    async def encode(self, output: Any, context: Any) -> Any:
        """`encode_response`'s result."""
        hook = self._plan.encode
        return output if hook is None else await _call(hook, output, context)

    async def predict_batch(self, inputs: list[Any], contexts: list[Any]) -> list[Any]:
        """The outputs of a batch, one a request."""
        plan = self._plan
        assert plan.batch is not None
        assert plan.unbatch is not None
        output = await self.predict(await _call(plan.batch, inputs, contexts), contexts)
        return outputs_of(plan, output, await _call(plan.unbatch, output, contexts), len(inputs))

    async def pieces(self, value: Any, context: Any) -> AsyncIterator[bytes]:
        """A stream's encoded pieces."""
        outputs = self._iterate(await self._outputs(value, context))
        async with aclosing(_generator(self._plan.encode_stream((value, outputs), context))) as encoded:
            async for piece in encoded:
                yield to_json(piece)

    async def batch_pieces(self, inputs: list[Any], contexts: list[Any]) -> AsyncIterator[list[bytes]]:
        """A streaming batch's encoded pieces, step by step."""
        plan = self._plan
        assert plan.batch is not None
        assert plan.unbatch is not None
        joined = await _call(plan.batch, inputs, contexts)
        async with aclosing(_generator(self._iterate(await self._outputs(joined, contexts)))) as steps:
            async for output in steps:
                outputs = outputs_of(plan, output, await _call(plan.unbatch, output, contexts), len(inputs))
                yield [
                    to_json(await self.encode(piece, context))
                    for piece, context in zip(outputs, contexts, strict=True)
                ]

    async def _outputs(self, value: Any, context: Any) -> Any:
        """What `predict` gives to iterate over."""
        hook = self._plan.predict
        if hook.is_generator:
            return hook.call(value, context)
        output = await self.predict(value, context)
        iterable = hasattr(output, "__iter__") or hasattr(output, "__aiter__")
        return output if iterable and not isinstance(output, _PLAIN) else [output]

    async def _iterate(self, outputs: Any) -> AsyncIterator[Any]:
        """Any iterable as an async generator; a blocking one advances in the thread."""
        if hasattr(outputs, "__aiter__"):
            async with aclosing(_generator(outputs)) as source:
                async for output in source:
                    yield output
            return
        iterator: Iterator[Any] = iter(outputs)
        blocking = hasattr(iterator, "send")
        try:
            while True:
                if blocking:
                    output = await _in_thread(self._thread, next, iterator, _DONE)
                else:
                    output = next(iterator, _DONE)
                if output is _DONE:
                    return
                yield output
        finally:
            close_quietly(iterator)


def _is_async_generator(plan: Plan) -> bool:
    import inspect

    return inspect.isasyncgenfunction(plan.api.predict)


async def _call(hook: Hook, value: Any, context: Any, thread: ThreadPoolExecutor | None = None) -> Any:
    if hook.is_async:
        return await hook.call(value, context)
    if thread is None:
        return hook.call(value, context)
    return await _in_thread(thread, hook.call, value, context)


async def _in_thread(thread: ThreadPoolExecutor, function: Any, *args: Any) -> Any:
    """Call it there, in the name of this task's requests."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(thread, lambda: context.run(function, *args))


def _generator(source: Any) -> Any:
    """Something with `aclose`: an async iterator without one is wrapped."""
    return source if hasattr(source, "aclose") else _relay(source)


async def _relay(source: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for item in source:
        yield item
