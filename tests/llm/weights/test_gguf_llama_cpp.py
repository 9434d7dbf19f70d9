"""llama.cpp itself, as the package `xllamacpp` carries it, reads what we write: the same likeliest tokens.

It computes in a process of its own. Its logits differ from ours by what it rounds activations to in blocks.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.llm.config import LayerSpec, ModelConfig, MoESpec, RopeSpec
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer
from blixt.llm.weights import load_checkpoint, save_checkpoint
from blixt.llm.weights.convert import convert

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="xllamacpp, which carries llama.cpp, is not installed"
)

PROGRAM = """
import json, os, sys, urllib.request
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port = sys.argv[1], 64, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup, params.fit_params, params.verbosity = False, False, -1
server = xllamacpp.Server(params)
body = {"prompt": json.loads(sys.argv[2]), "n_predict": 1, "n_probs": 12, "temperature": -1}
request = urllib.request.Request(server.listening_address + "/completion", json.dumps(body).encode())
answer = json.loads(urllib.request.urlopen(request, timeout=120).read())
(first,) = answer["completion_probabilities"]
print("FOUND", json.dumps({each["id"]: each["logprob"] for each in first["top_logprobs"]}), flush=True)
os._exit(0)  # its server has no end
"""
SIZES: dict[str, Any] = {"d": 256, "layers": 2, "heads": 4, "kv_heads": 2, "d_ff": 256, "context": 64}
MIXTURE: dict[str, Any] = {
    "model_type": "mixtral",
    "moe": MoESpec(4, 2, 256),
    "layer_specs": (LayerSpec(rope=RopeSpec(), mlp="moe", d_ff=256),) * 2,
}


def their_logprobs(path: Path, tokens: list[int]) -> dict[int, float]:
    """What llama.cpp gives the likeliest tokens after some others."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), json.dumps(tokens)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    found = next((line for line in run.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert found is not None, run.stdout + run.stderr
    return {int(token): value for token, value in json.loads(found[6:]).items()}


@pytest.mark.parametrize(
    ("format", "more", "bound"),
    [
        ("f16", {}, 0.01),
        ("q8_0", {}, 0.15),
        ("q4_k_m", {}, 0.15),
        ("q5_k_m", {}, 0.15),
        ("q6_k", {}, 0.15),
        ("mxfp4", MIXTURE, 0.15),
        ("q4_k_m", MIXTURE, 0.15),
    ],
    ids=lambda value: "experts" if value is MIXTURE else str(value) if isinstance(value, str) else None,
)
def test_llama_cpp_computes_from_our_file_what_we_do(
    tokenizer: Tokenizer, tmp_path: Path, format: str, more: dict[str, Any], bound: float
) -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab=len(tokenizer), eos=(2,), bos=1, **SIZES, **more))
    save_checkpoint(model, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    path = convert(tmp_path / "model", tmp_path / "x.gguf", format=format)
    tokens = tokenizer.encode("The tokens of a short prompt, nothing more.")
    with torch.no_grad():
        ours = load_checkpoint(path, dtype="float32")(torch.tensor([tokens]))[0, -1].log_softmax(-1)
    theirs = their_logprobs(path, tokens)
    gaps = [abs(value - float(ours[token])) for token, value in theirs.items()]
    assert max(gaps) < bound
