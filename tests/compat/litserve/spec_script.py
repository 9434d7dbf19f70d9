"""A script of LitServe's users with specs of its own: runs unchanged under LitServe and under blixt's door.

`translate` answers whole, `speech` streams, `assistant` changes OpenAI's chat. The endpoints are as users of
LitServe write them: a request goes into the queue, its answer comes through the response buffer.
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections import deque

import litserve as ls
from fastapi import BackgroundTasks, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from litserve.callbacks.base import EventTypes
from litserve.specs.base import LitSpec
from litserve.specs.openai import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionStreamingChoice,
    ChoiceDelta,
)
from litserve.utils import LitAPIStatus, ResponseBufferItem, azip
from pydantic import BaseModel


class Translation(BaseModel):
    text: str
    to: str = "upper"


class TranslateSpec(LitSpec):
    """`POST /v1/translate`, whole, and a GET beside it."""

    def __init__(self):
        super().__init__()
        self.api_path = "/v1/translate"
        self.add_endpoint(self.api_path, self.translate, ["POST"])
        self.add_endpoint("/v1/languages", self.languages, ["GET"])

    def setup(self, server):
        super().setup(server)
        self.prefix = "got "  # set here, used in the workers

    def populate_context(self, context, request):
        context["to"] = request.to

    def decode_request(self, request, context_kwargs=None):
        return request.text

    def encode_response(self, output, context_kwargs=None):
        return {"said": self.prefix + output}

    async def languages(self, request: Request):
        return JSONResponse(["upper", "title"])

    async def translate(self, request: Translation) -> dict:
        uid, event = uuid.uuid4(), asyncio.Event()
        self.response_buffer[uid] = ResponseBufferItem(event=event)
        self._server._callback_runner.trigger_event(
            EventTypes.ON_REQUEST.value, active_requests=self._server.active_requests, litserver=self._server
        )
        self.request_queue.put_nowait((self.response_queue_id, uid, time.monotonic(), request.model_copy()))
        await event.wait()
        response, status = self.response_buffer.pop(uid).response
        if status == LitAPIStatus.ERROR and isinstance(response, HTTPException):
            raise response
        if status == LitAPIStatus.ERROR:
            raise HTTPException(status_code=500)
        return response


class Translate(ls.LitAPI):
    def predict(self, x, context):
        if x == "teapot":
            raise HTTPException(418, "short and stout")
        if x == "break":
            raise RuntimeError("a secret")
        return getattr(x, context["to"])()


class Speech(BaseModel):
    input: str
    count: int = 3


class SpeechSpec(LitSpec):
    """`POST /v1/speech`: bytes, piece by piece."""

    def __init__(self):
        super().__init__()
        self.api_path = "/v1/speech"
        self.add_endpoint(self.api_path, self.speak, ["POST"])

    @property
    def stream(self):
        return True

    def decode_request(self, request, context_kwargs=None):
        return request

    def encode_response(self, output, context_kwargs=None):
        yield from output

    async def speak(self, request: Speech, background_tasks: BackgroundTasks):
        uid, event, queue = uuid.uuid4(), asyncio.Event(), deque()
        self.response_buffer[uid] = ResponseBufferItem(event, queue)
        self.request_queue.put((self.response_queue_id, uid, time.monotonic(), request))
        pieces = self.data_streamer(queue, event)
        return StreamingResponse(pieces, media_type="audio/pcm", background=background_tasks)


class Speak(ls.LitAPI):
    def predict(self, request):
        notes = os.environ.get("SPEC_NOTES")
        try:
            for number in range(request.count):
                yield f"{request.input}{number};".encode()
        finally:
            if notes:
                with open(notes, "a") as file:
                    file.write(f"{request.input} {number + 1}\n")


class Feedback(BaseModel):
    note: str


class TypedChunk(ChatCompletionChunk):
    type: str = ""


class AssistantSpec(ls.OpenAISpec):
    """OpenAI's chat with models, a route of its own, and chunks that tell their type."""

    def pre_setup(self, lit_api):
        self.add_endpoint("/v1/models", self.models, ["GET"])
        self.add_endpoint("/feedback", self.feedback, ["POST"])
        super().pre_setup(lit_api)

    async def models(self, request: Request):
        return JSONResponse({"data": [{"id": "mine"}]})

    def populate_context(self, context, request):
        if isinstance(request, ChatCompletionRequest):
            super().populate_context(context, request)

    async def feedback(self, request: Feedback):
        event, queue, uid = asyncio.Event(), deque(), uuid.uuid4()
        self.response_buffer[uid] = ResponseBufferItem(event, queue)
        self.request_queue.put((self.response_queue_id, uid, time.monotonic(), request.model_copy()))
        async for response, status in self.data_streamer(queue, event, send_status=True):
            if status == LitAPIStatus.ERROR:
                raise HTTPException(status_code=500)
            return Response(response, media_type="application/json")

    async def streaming_completion(self, request, pipe_responses):
        async for pieces in azip(*pipe_responses):
            choices = [
                ChatCompletionStreamingChoice(
                    index=index, delta=ChoiceDelta(**json.loads(piece)), finish_reason=None
                )
                for index, (piece, status) in enumerate(pieces)
            ]
            chunk = TypedChunk(model=request.model, choices=choices, usage=None, type="word")
            yield f"data: {chunk.model_dump_json(by_alias=True)}\n\n"
        yield "data: [DONE]\n\n"


class Assistant(ls.LitAPI):
    async def predict(self, request):
        if isinstance(request, Feedback):
            yield {"role": "assistant", "content": f"noted {request.note}"}
            return
        for word in request.messages[-1].content.split():
            yield word + " "


def make_server():
    apis = [Translate(spec=TranslateSpec()), Speak(spec=SpeechSpec())]
    assistant = Assistant(spec=AssistantSpec(), enable_async=True)
    return ls.LitServer([*apis, assistant], accelerator="cpu", timeout=60)


if __name__ == "__main__":
    make_server().run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
