"""Trains nothing, but logs, reports metrics and leaves a model as a training job does.

Arguments: steps, seconds between steps, learning rate.
"""

import json
import math
import os
import random
import sys
import time
import urllib.request
from pathlib import Path

STEPS, PAUSE_S, LR = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
TEAMSPACE = f"{os.environ['BLIXT_URL']}/api/v1/teamspaces/{os.environ['BLIXT_TEAMSPACE']}"
RUNS = f"{TEAMSPACE}/experiments/{os.environ['BLIXT_EXPERIMENT']}/runs"
RUN = os.environ["BLIXT_RUN"]


def send(method: str, url: str, body: dict) -> None:
    headers = {"Authorization": f"Bearer {os.environ['BLIXT_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    urllib.request.urlopen(request, timeout=60).close()


def main() -> None:
    noise = random.Random(LR)
    params = {"lr": LR, "layers": 4, "steps": STEPS}
    send("POST", RUNS, {"id": RUN, "name": RUN, "params": params, "job": os.environ["BLIXT_JOB"]})
    print(f"\033[1mTraining\033[0m tiny-gpt for {STEPS} steps at lr {LR:g}", flush=True)
    loss = 0.0
    for step in range(1, STEPS + 1):
        loss = 1.9 + 6.4 * math.exp(-step * LR * 8000 / STEPS / 2) + noise.uniform(-0.08, 0.08)
        speed = 51_000 + noise.uniform(-1500, 1500)
        values = {"train_loss": loss, "lr": LR * min(1, step / 20), "tokens_per_s": speed}
        send(
            "POST",
            f"{RUNS}/{RUN}/metrics",
            {"seq": step, "rows": [{"step": step, "time": time.time(), "values": values}]},
        )
        print(f"step {step:4d}  loss {loss:.4f}  {speed:,.0f} tokens/s", flush=True)
        time.sleep(PAUSE_S)
    if folder := os.environ.get("BLIXT_MODEL_OUT"):
        Path(folder, "config.json").write_text(json.dumps(params))
        Path(folder, "model.safetensors").write_bytes(b"\0" * 2_600_000)
        Path(folder, "metrics.json").write_text(json.dumps({"loss": round(loss, 4)}))
    send("PATCH", f"{RUNS}/{RUN}", {"state": "succeeded"})
    print("\033[32mdone\033[0m", flush=True)


main()
