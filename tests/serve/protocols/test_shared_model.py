"""Several routes, plain pages among them, in front of one model in one worker."""

import os
from functools import partial

import httpx
import msgspec

from blixt.serve import API, Call, Endpoint, Server, Spec, Web
from blixt.serve.testing import running


class Cases(Spec):
    streams = False

    def endpoints(self):
        return [Endpoint(f"/{case}", partial(self.parse, case)) for case in ("upper", "title")]

    def parse(self, case, body):
        return Call([msgspec.json.encode({"case": case, "text": body.decode()})])


class Text(API):
    def setup(self, device):
        self.pid = os.getpid()

    def predict(self, request):
        return {"text": getattr(request["text"], request["case"])(), "pid": self.pid}


def pages(app):
    @app.get("/cases")
    async def cases():
        return ["upper", "title"]


def test_routes_of_one_spec_share_the_model_and_a_page_of_ones_own_stands_beside_them():
    server = Server(Text(spec=Cases()), accelerator="cpu", web=Web(extend=pages))
    with running(server) as service:
        said = [
            httpx.post(f"{service.url}/{case}", content="ada lovelace", timeout=60).json()
            for case in httpx.get(f"{service.url}/cases").json()
        ]
        assert [one["text"] for one in said] == ["ADA LOVELACE", "Ada Lovelace"]
        assert {one["pid"] for one in said} == set(service.worker_pids())
        assert {"/upper", "/title", "/cases"} < set(httpx.get(f"{service.url}/openapi.json").json()["paths"])
