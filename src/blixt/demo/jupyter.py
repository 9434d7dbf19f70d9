"""A browser's part towards JupyterLab in a Studio: the one-time link, the page, a kernel, a terminal."""

import json
import socket
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from blixt.demo.stage import Untrue

TIMEOUT_S = 60.0


class JupyterVisit:
    """Signed in to a Studio's own origin, as a browser that followed the link would be.

    Names below `localhost` are this machine, for a browser too, so no name service is asked.

    Args:
        url: The one-time link from `blixt studio open`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._port = parts.port or 80
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}",
            headers={"Host": self.host},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        answer = self._http.get(f"{parts.path}?{parts.query}")
        if not answer.is_redirect or not self._http.cookies:
            raise Untrue(f"The one-time link answered {answer.status_code} and did not sign in.")
        self.link = f"{parts.path}?{parts.query}"

    def page(self) -> str:
        """The HTML of JupyterLab."""
        answer = self._http.get("/lab")
        if answer.status_code != 200:
            raise Untrue(f"JupyterLab answered {answer.status_code} at http://{self.host}/lab.")
        return answer.text

    def reuse_is_refused(self) -> bool:
        """Whether the link is worth nothing the second time, to someone without the cookie."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False) as stranger:
            answer = stranger.get(self.link, headers={"Host": self.host})
            return not stranger.cookies and answer.status_code >= 400

    def compute(self, code: str) -> str:
        """Run code in a Python kernel, over its WebSocket; returns what it printed."""
        kernel = self._post("/api/kernels", {"name": "python3"})["id"]
        message: dict[str, Any] = {
            "header": {
                "msg_id": uuid.uuid4().hex,
                "msg_type": "execute_request",
                "session": "demo",
                "username": "",
                "version": "5.3",
                "date": "",
            },
            "parent_header": {},
            "metadata": {},
            "channel": "shell",
            "buffers": [],
            "content": {
                "code": code,
                "silent": False,
                "store_history": False,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
        }
        with self._socket(f"/api/kernels/{kernel}/channels") as channel:
            channel.send(json.dumps(message))
            while True:
                answer = json.loads(channel.recv(timeout=TIMEOUT_S))
                if answer["msg_type"] == "stream":
                    return str(answer["content"]["text"])
                if answer["msg_type"] == "error":
                    raise Untrue(f"The kernel could not run {code!r}: {answer['content']['evalue']}.")

    def terminal(self, line: str, marker: str) -> str:
        """Type a line into a terminal of JupyterLab; returns what it showed once `marker` is there."""
        name = self._post("/api/terminals", {})["name"]
        shown = ""
        with self._socket(f"/terminals/websocket/{name}") as channel:
            channel.send(json.dumps(["stdin", line + "\r"]))
            while marker not in shown:
                kind, *rest = json.loads(channel.recv(timeout=TIMEOUT_S))
                shown += str(rest[0]) if kind == "stdout" else ""
        return shown

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        cookie = self._http.cookies.get("_xsrf")
        headers = {"X-XSRFToken": cookie} if cookie else {}
        answer = self._http.post(path, json=body, headers=headers | {"Origin": f"http://{self.host}"})
        if answer.is_error:
            raise Untrue(f"JupyterLab answered {answer.status_code} to POST {path}: {answer.text[:200]}")
        return answer.json()

    @contextmanager
    def _socket(self, path: str) -> Generator[ClientConnection, None, None]:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._http.cookies.jar)
        try:
            with connect(
                f"ws://{self.host}{path}",
                sock=socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S),
                origin=f"http://{self.host}",  # type: ignore[arg-type]
                additional_headers={"Cookie": cookies},
                proxy=None,
                max_size=None,
            ) as channel:
                yield channel
        except WebSocketException as error:
            raise Untrue(f"The WebSocket {path} of JupyterLab broke: {error}.") from error
