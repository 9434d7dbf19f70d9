"""A model that answers many requests at once: least-squares lines, fitted as one batch with numpy.

Requests that arrive while a batch is computed form the next one; `batch_timeout_s` lets the first wait
a little.

python examples/serve/batched_lines.py
curl -d '[1.0, 3.1, 4.9, 7.0]' http://127.0.0.1:8000/line
"""

import sys

import numpy as np

from blixt.serve import API, HTTPError, Server


class Line(API):
    max_batch_size = 32
    batch_timeout_s = 0.002
    api_path = "/line"

    def decode_request(self, ys: list[float]) -> np.ndarray:
        if len(ys) != 4:
            raise HTTPError(422, "Send four numbers, the values at x = 0, 1, 2 and 3.")
        return np.array(ys)

    # `batch` needs no code: arrays of one shape are stacked.

    def predict(self, ys: np.ndarray) -> np.ndarray:
        xs = np.stack([np.arange(4.0), np.ones(4)], axis=1)
        lines, *_ = np.linalg.lstsq(xs, ys.T, rcond=None)
        return lines.T

    def encode_response(self, line: np.ndarray) -> dict[str, float]:
        return {"slope": round(float(line[0]), 6), "intercept": round(float(line[1]), 6)}


if __name__ == "__main__":
    Server(Line()).run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
