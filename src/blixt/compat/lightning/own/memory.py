"""What went wrong with memory, and how to get some back."""

import gc
from typing import Any

import torch

from blixt.fabric import map_tensors


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """Nested tensors without their graphs, on the CPU if asked."""

    def detach(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cpu() if to_cpu else tensor.detach()

    return map_tensors(in_dict, detach)


def is_oom_error(exception: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    words = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "can't allocate memory", "not enough memory")
    return isinstance(exception, RuntimeError) and any(word in str(exception) for word in words)


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether memory ran out on a CUDA device."""
    return isinstance(exception, torch.cuda.OutOfMemoryError)


def garbage_collection_cuda() -> None:
    """Collect garbage, and give cached CUDA memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether cuDNN ran out of memory, which it calls unsupported."""
    return isinstance(exception, RuntimeError) and "CUDNN_STATUS_NOT_SUPPORTED." in str(exception)


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether the machine's own memory ran out."""
    words = "DefaultCPUAllocator: can't allocate memory"
    return isinstance(exception, RuntimeError) and words in str(exception)
