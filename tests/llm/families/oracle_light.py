"""Hides packages that transformers imports when they are there: they take long, and nothing needs them."""

import sys

UNUSED = "accelerate bitsandbytes datasets deepspeed pandas peft scipy sklearn torchao torchaudio torchvision"
for name in UNUSED.split():
    sys.modules[name] = None  # pyright: ignore[reportArgumentType] - says that it cannot be imported
