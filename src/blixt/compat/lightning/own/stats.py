"""What devices report about themselves, as functions."""

import shutil
import subprocess
from typing import Any

import torch

from blixt.fabric import ACCELERATORS, FabricError

_GPU_NUMBERS = {
    "utilization.gpu": "%",
    "memory.used": "MB",
    "memory.free": "MB",
    "utilization.memory": "%",
    "fan.speed": "%",
    "temperature.gpu": "°C",
    "temperature.memory": "°C",
}


def get_cpu_stats() -> dict[str, float]:
    """Load, memory and swap in percent."""
    return ACCELERATORS["cpu"].get_device_stats(torch.device("cpu"))


def get_device_stats() -> dict[str, float]:
    """The numbers of an Apple GPU, and of the memory it shares."""
    return ACCELERATORS["mps"].get_device_stats(torch.device("mps"))


def get_nvidia_gpu_stats(device: torch.device | str | int) -> dict[str, float]:
    """What nvidia-smi says of load, memory, fan and temperature; 0 for what a card does not tell.

    Raises:
        FileNotFoundError: Without nvidia-smi.
        FabricError: When it does not answer.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        raise FileNotFoundError("nvidia-smi is not on PATH. Install NVIDIA's driver tools.")
    card = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    cuda: Any = torch.cuda
    card_id = f"GPU-{cuda.get_device_properties(card).uuid}"
    command = [program, f"--query-gpu={','.join(_GPU_NUMBERS)}", "--format=csv,nounits,noheader"]
    done = subprocess.run(
        [*command, f"--id={card_id}"], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise FabricError(f"nvidia-smi failed: {(done.stderr or done.stdout).strip()}. Try it by hand.")
    values = done.stdout.strip().split(", ")
    return {
        f"{name} ({unit})": _number(value)
        for (name, unit), value in zip(_GPU_NUMBERS.items(), values, strict=True)
    }


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
