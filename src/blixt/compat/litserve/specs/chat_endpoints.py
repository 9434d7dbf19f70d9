"""A chat's endpoints over LitServe's queues, for subclasses of `OpenAISpec` with HTTP of their own."""

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

from fastapi import BackgroundTasks, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from ..callbacks.base import EventTypes
from ..status import LitAPIStatus
from ..utils import ResponseBufferItem, azip
from .base import LitSpec
from .openai_types import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionStreamingChoice,
    ChatMessage,
    ChoiceDelta,
    UsageInfo,
)

logger = logging.getLogger(__name__)
Pipe = AsyncIterable[tuple[Any, str]]


class ChatEndpoints(LitSpec):
    """The methods that answer `/v1/chat/completions`; a subclass may override any."""

    async def options_chat_completions(self, request: Request) -> Response:
        """The route is there."""
        return Response(status_code=200)

    async def chat_completion(self, request: ChatCompletionRequest, background_tasks: BackgroundTasks) -> Any:
        """Ask for every choice, and answer when all are there, or piece by piece."""
        one = request.model_copy(update={"n": 1})
        pipes = await self.get_from_queues([self.ask(one) for _ in range(request.n or 1)])
        if not request.stream:
            return await self.non_streaming_completion(request, pipes)
        pieces = self.streaming_completion(request, pipes)
        return StreamingResponse(pieces, media_type="text/event-stream", background=background_tasks)

    def ask(self, request: Any) -> uuid.UUID:
        """Put a request into the queue; its pieces come to the response buffer, under the uid returned."""
        assert self._server is not None, "the server sets it before it takes requests"
        assert self.response_buffer is not None
        assert self.request_queue is not None
        self._server._callback_runner.trigger_event(  # pyright: ignore[reportPrivateUsage]
            EventTypes.ON_REQUEST.value,
            active_requests=self._server.active_requests,
            litserver=self._server,
        )
        uid = uuid.uuid4()
        self.response_buffer[uid] = ResponseBufferItem(asyncio.Event(), deque())
        self.request_queue.put((self.response_queue_id, uid, time.monotonic(), request))
        return uid

    async def get_from_queues(self, uids: Sequence[Any]) -> list[Any]:
        """For each uid the stream of `(piece, status)`."""
        assert self.response_buffer is not None
        items = [self.response_buffer[uid] for uid in uids]
        return [self.data_streamer(item.response_queue, item.event, send_status=True) for item in items]

    async def streaming_completion(
        self, request: ChatCompletionRequest, pipe_responses: list[Any]
    ) -> AsyncIterator[str]:
        """The answer as server-sent events; an error is one too, and ends it."""
        model, usage = request.model or "", None
        try:
            async for pieces in azip(*pipe_responses):
                said = [_checked(*piece) for piece in pieces]
                choices = [
                    ChatCompletionStreamingChoice(index=index, delta=ChoiceDelta(**one))
                    for index, one in enumerate(said)
                ]
                usage = sum((UsageInfo(**one) for one in said), UsageInfo())
                yield _event(ChatCompletionChunk(model=model, choices=choices))
            ends = [
                ChatCompletionStreamingChoice(index=index, delta=ChoiceDelta(), finish_reason="stop")
                for index in range(len(pipe_responses))
            ]
            yield _event(ChatCompletionChunk(model=model, choices=ends, usage=usage))
            yield "data: [DONE]\n\n"
        except Exception as error:
            logger.exception("a chat's stream failed")
            yield format_error(error)

    async def non_streaming_completion(
        self, request: ChatCompletionRequest, generator_list: list[Any]
    ) -> ChatCompletionResponse:
        """The answer in one."""
        choices: list[ChatCompletionResponseChoice] = []
        usage = UsageInfo()
        for index, pipe in enumerate(generator_list):
            said = [_checked(*piece) async for piece in pipe]
            messages = [ChatMessage(**one) for one in said]
            calls = next((one.tool_calls for one in reversed(messages) if one.tool_calls), None)
            text = "".join(one.content for one in messages if isinstance(one.content, str))
            message = ChatMessage(role="assistant", content=text, tool_calls=calls)
            choices.append(ChatCompletionResponseChoice(index=index, message=message, finish_reason="stop"))
            usage = sum((UsageInfo(**one) for one in said), usage)
        return ChatCompletionResponse(model=request.model or "", choices=choices, usage=usage)


def _checked(piece: Any, status: str) -> dict[str, Any]:
    """A piece's content; what came to an error is raised."""
    if status != LitAPIStatus.ERROR:
        return json.loads(piece)
    if isinstance(piece, HTTPException):
        raise piece
    raise HTTPException(500, "Internal server error")


def _event(chunk: ChatCompletionChunk) -> str:
    return f"data: {chunk.model_dump_json(by_alias=True)}\n\n"


def format_error(error: Exception) -> str:
    """An error inside a stream, as an event."""
    message = error.detail if isinstance(error, HTTPException) else "Internal server error"
    told = {"message": message, "type": "internal", "param": None, "code": "internal_error"}
    return f"data: {json.dumps({'error': told})}\n\n"
