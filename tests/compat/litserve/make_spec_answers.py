"""Writes `spec_answers.json`: what LitServe 0.2.19 itself answers with the specs of `spec_script.py`.

python -m tests.compat.litserve.make_spec_answers
"""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from blixt.serve.testing import wait_until

FOLDER = Path(__file__).parent
ANSWERS = FOLDER / "spec_answers.json"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
ASKED = (
    ("POST", "/v1/translate", {"text": "ab cd"}),
    ("POST", "/v1/translate", {"text": "ab cd", "to": "title"}),
    ("POST", "/v1/translate", {"text": "teapot"}),
    ("POST", "/v1/translate", {"text": "break"}),
    ("POST", "/v1/translate", {"to": "title"}),
    ("GET", "/v1/languages", None),
    ("GET", "/v1/models", None),
    ("POST", "/v1/speech", {"input": "x", "count": 4}),
    ("POST", "/feedback", {"note": "good"}),
    ("POST", "/v1/chat/completions", {**CHAT, "n": 2}),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("OPTIONS", "/v1/chat/completions", None),
)
# LitServe 0.2.19 cannot start beside mcp 2: let it believe there is none.
CODE = """
import sys
sys.modules["mcp"] = None
sys.path.insert(0, sys.argv[2])
import spec_script
if __name__ == "__main__":
    spec_script.make_server().run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
"""


def answers(url: str) -> list[list[object]]:
    """Status, media type and body of every answer; without what is new each time."""
    told = []
    for method, path, body in ASKED:
        answer = httpx.request(method, url + path, json=body, timeout=120)
        told.append([answer.status_code, answer.headers.get("content-type"), steady(answer.text)])
    return told


def steady(text: str) -> str:
    """An answer without its id and time."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    for index, line in enumerate(lines):
        if line.startswith("{"):
            said = json.loads(line)
            kept = {name: said[name] for name in said if name not in ("id", "created")}
            lines[index] = json.dumps(kept, sort_keys=True)
    return "\n".join(lines)


def main() -> None:
    """Ask LitServe."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", CODE, str(port), str(FOLDER)])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_healthy(url), 120, "LitServe")
        ANSWERS.write_text(json.dumps(answers(url), indent=1) + "\n")
    finally:
        process.terminate()
        process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
