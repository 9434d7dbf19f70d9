"""Seeding, and random numbers that a block must not disturb."""

import json
import os
import random

import numpy as np
import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng


def draw():
    return [random.random(), float(np.random.rand()), torch.rand(1).item()]


print(
    json.dumps(
        [
            "returns",
            seed_everything(12, workers=True),
            os.environ["PL_GLOBAL_SEED"],
            os.environ["PL_SEED_WORKERS"],
        ]
    )
)
print(json.dumps(draw()))
with isolate_rng():
    inside = draw()
after = draw()
print(json.dumps([inside, after, inside == after]))
reset_seed()
print(json.dumps(draw()))
seed_everything(2**32 - 1)
print(json.dumps(draw()))
for value in (-1, 2**32):
    try:
        seed_everything(value)
    except ValueError:
        print(json.dumps(["refused", value]))
os.environ["PL_GLOBAL_SEED"] = "5"
print(json.dumps(["from environment", seed_everything()]))
