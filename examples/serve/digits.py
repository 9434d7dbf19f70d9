"""A picture of a handwritten digit in, the digit out: a model class served with batches.

python examples/serve/digits.py            # learn from scikit-learn's 1,797 real digits, then serve
curl --data-binary @digit.png -H 'content-type: image/png' http://127.0.0.1:8000/predict
"""

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from blixt.serve import API, Server

Picture = NDArray[np.float32]


class Digits(API):
    max_batch_size = 64
    batch_timeout_s = 0.002

    def setup(self, device: str) -> None:
        digits = load_digits()
        pixels = np.asarray(digits.data, np.float32) / 16
        self.weights = learn(pixels, np.asarray(digits.target))

    def decode_request(self, picture: Image.Image) -> Picture:
        small = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
        return np.append(np.asarray(small, np.float32).ravel() / 255, np.float32(1))

    def predict(self, pictures: Picture) -> Picture:  # `batch` has stacked them: [batch, 65]
        return softmax(pictures @ self.weights)  # [batch, 10]

    def encode_response(self, chances: Picture) -> dict[str, float | int]:
        digit = int(chances.argmax())
        return {"digit": digit, "probability": round(float(chances[digit]), 4)}


def softmax(scores: Picture) -> Picture:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def learn(pixels: Picture, labels: NDArray[np.int64], steps: int = 300, rate: float = 2.0) -> Picture:
    """Multinomial logistic regression by gradient descent, full batch. Returns [65, 10]."""
    inputs = np.hstack([pixels, np.ones((len(pixels), 1), np.float32)])
    wanted = np.eye(10, dtype=np.float32)[labels]
    weights = np.zeros((65, 10), np.float32)
    for _ in range(steps):
        weights -= rate * inputs.T @ (softmax(inputs @ weights) - wanted) / len(inputs)
    return weights


if __name__ == "__main__":
    Server(Digits()).run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
