"""Specs of LitServe's users, written against its queues, its response buffer and its data streamer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from blixt.serve.testing import wait_until

from .make_spec_answers import ANSWERS, answers

FOLDER = Path(__file__).parent
# The script as it is, but on a free port, which LitServe's `run` does not know.
CODE = """
import sys
sys.path[:0] = sys.argv[1:3]
import spec_script
if __name__ == "__main__":
    server = spec_script.make_server()
    server._server.fronts = int(sys.argv[3])
    server._server.run(port=0)
"""


@pytest.fixture(scope="module", params=[1, 2], ids=["one front", "two fronts"])
def served(request, tmp_path_factory):
    """`(url, file of notes)` of the script through the door."""
    notes = tmp_path_factory.mktemp("specs") / "notes"
    path = [sys.executable, "-m", "blixt.compat.litserve", "--path"]
    door = subprocess.run(path, capture_output=True, text=True, check=True).stdout.strip()
    words = [sys.executable, "-W", "ignore", "-c", CODE, str(FOLDER), door, str(request.param)]
    environment = {**os.environ, "SPEC_NOTES": str(notes)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        wait_until(lambda: httpx.get(f"{url}/health", timeout=60).status_code == 200, 240, "its workers")
        yield url, notes
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_every_endpoint_answers_as_under_litserve_itself(served):
    for told, expected in zip(answers(served[0]), json.loads(ANSWERS.read_text()), strict=True):
        assert told == expected


def test_openais_client_reads_a_chat_that_a_subclass_has_changed(served):
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="any", max_retries=0) as client:
        said = [{"role": "user", "content": "one two"}]
        chunks = list(client.chat.completions.create(model="m", messages=said, stream=True))
        assert [(chunk.type, chunk.choices[0].delta.content) for chunk in chunks] == [
            ("word", "one "),
            ("word", "two "),
        ]


def test_a_stream_whose_client_leaves_is_cancelled(served):
    url, notes = served
    with httpx.stream(
        "POST", f"{url}/v1/speech", json={"input": "left", "count": 10**9}, timeout=60
    ) as answer:
        assert next(answer.iter_raw(8))

    def made():
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith("left ")]

    wait_until(made, 60, "the stream's end in the worker")
    assert made()[0] < 10**9
