"""Every example runs as its first lines say, and as `blixt serve FILE` would run it."""

import io
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import openai
from PIL import Image
from sklearn.datasets import load_digits

from blixt.serve.client import Client
from blixt.serve.testing import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples" / "serve"


@contextmanager
def example(*command):
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            url = next(word for word in line.split() if word.startswith("http://"))
            wait_until(lambda: httpx.get(f"{url}/ready", timeout=60).status_code == 200, 60, "readiness")
            yield url
        finally:
            process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_echo():
    with example(EXAMPLES / "echo.py", "0") as url:
        answer = httpx.post(f"{url}/predict", json={"name": "Ada", "times": 2})
        assert answer.json() == {"text": "Hello, Ada! Hello, Ada! "}
        assert httpx.post(f"{url}/predict", json={"name": "Ada", "times": 4}).status_code == 400


def test_batched_lines():
    with example(EXAMPLES / "batched_lines.py", "0") as url:
        assert httpx.post(f"{url}/line", json=[1, 3, 5, 7]).json() == {"slope": 2.0, "intercept": 1.0}
        assert httpx.post(f"{url}/line", json=[1, 3]).status_code == 422


def test_openai_markov():
    with example(EXAMPLES / "openai_markov.py", "0") as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        request = {"model": "markov", "prompt": "the", "max_tokens": 4, "seed": 1}
        whole = client.completions.create(**request)
        pieces = client.completions.create(**request, stream=True)
        assert "".join(chunk.choices[0].text for chunk in pieces) == whole.choices[0].text
        assert whole.usage.completion_tokens == 4


def test_a_file_is_served_without_a_line_of_server_code():
    script = Path(__file__).parent / "serve_file.py"
    with example(script, EXAMPLES / "echo.py") as url:
        assert httpx.post(f"{url}/predict", json={"name": "Ada"}).json() == {"text": "Hello, Ada! "}


def test_digits():
    digits = load_digits()
    with example(EXAMPLES / "digits.py", "0") as url, httpx.Client() as client:
        right = 0
        for image, label in zip(digits.images[:40], digits.target[:40], strict=True):
            png = io.BytesIO()
            Image.fromarray((image * 15.9).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST).save(
                png, "png"
            )
            headers = {"content-type": "image/png"}
            right += (
                client.post(f"{url}/predict", content=png.getvalue(), headers=headers).json()["digit"]
                == label
            )
        assert right >= 36


def test_story():
    with example(EXAMPLES / "story.py", "0") as url, Client(url) as client:
        request = {"prompt": "The ", "characters": 60, "seed": 1}
        text = "".join(client.stream(request, path="/write"))
        assert len(text) == 60
        assert text == "".join(client.stream(request, path="/write"))


def test_pipeline():
    with example(EXAMPLES / "pipeline.py", "0") as url:
        answer = httpx.post(f"{url}/mood", json="what a lovely, lovely day")
        assert answer.json() == {"score": 2, "mood": "good"}
