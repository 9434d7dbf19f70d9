"""Linear layers in 8 or 4 bit, by the package bitsandbytes."""

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from blixt.fabric.errors import ConfigError, MissingPackageError, UsageError, nearest
from blixt.fabric.precision.base import Precision, default_dtype, under

Mode = Literal["nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training"]


class BitsandbytesPrecision(Precision):
    """Every `nn.Linear` becomes a layer of bitsandbytes, which is quantised when it is moved to its device.

    4-bit and int8 weights are frozen: train adapters beside them. "int8-training" keeps 16-bit weights and
    quantises them in every forward pass. `load_state_dict` accepts weights of full precision, which are
    quantised as they arrive, and those of a model quantised in the same mode.

    Args:
        mode: "nf4" and "fp4" are 4-bit types, "-dq" quantises their scales once more; "int8" is LLM.int8()
            with outliers above 6 in 16 bit.
        dtype: In which the layers compute. By default float16 for int8, for 4 bit bfloat16 where the GPU has
            it (or there is none) and float16 elsewhere.
        ignore_modules: Names, or beginnings of names, of submodules that stay as they are: {"lm_head"}.

    Raises:
        ConfigError: For an unknown mode or a type that it cannot compute in.
        MissingPackageError: Without bitsandbytes.
    """

    def __init__(
        self, mode: Mode, dtype: torch.dtype | None = None, ignore_modules: Iterable[str] | None = None
    ) -> None:
        if mode not in get_args(Mode):
            hint = nearest(str(mode), get_args(Mode)).rstrip("?")
            raise ConfigError("BitsandbytesPrecision(mode)", mode, "there is no such mode", hint)
        eight_bit = mode.startswith("int8")
        if eight_bit and dtype not in (None, torch.float16):
            reason = "int8 layers compute in float16"
            raise ConfigError("BitsandbytesPrecision(dtype)", dtype, reason, "Leave it out, or use nf4")
        _layers()
        self.mode: Mode = mode
        self.name = mode
        self.dtype = dtype or (torch.float16 if eight_bit else _best_16_bit())
        self.compute_dtype = self.dtype
        self.ignore_modules = set(ignore_modules or ())

    @property
    def input_dtype(self) -> torch.dtype:
        """The type in which the layers compute."""
        return self.dtype

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """New tensors have the type in which the layers compute."""
        return default_dtype(self.dtype)

    def wrap(self, fn: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """`fn`, with tensors it makes in the type in which the layers compute."""
        return under(default_dtype(self.dtype), fn)

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Linear layers replaced; a module that was converted before comes back as it is.

        Raises:
            UsageError: When there is no linear layer to replace.
        """
        made = _layers()
        if any(isinstance(child, made.bases) for child in module.modules()):
            return module
        replaced = _replace(module, lambda linear: made.make(linear, self.mode, self.dtype), self._ignored)
        if replaced is module and not any(isinstance(child, made.bases) for child in module.modules()):
            raise UsageError(
                f"{type(module).__name__} has no linear layer that {self.mode!r} could quantise. "
                "Leave the precision out, or check ignore_modules."
            )
        return replaced

    @contextmanager
    def init_context(self) -> Any:
        """Layers are made on the CPU, so that the device never holds them in full."""
        with torch.device("cpu"), default_dtype(self.dtype):
            yield

    def tensor_context(self) -> AbstractContextManager[Any]:
        """In the type in which the layers compute."""
        return default_dtype(self.dtype)

    def _ignored(self, name: str) -> bool:
        return any(name == prefix or name.startswith(f"{prefix}.") for prefix in self.ignore_modules)


def _best_16_bit() -> torch.dtype:
    old_gpu = torch.cuda.is_available() and not torch.cuda.is_bf16_supported()
    return torch.float16 if old_gpu else torch.bfloat16


def _replace(
    module: nn.Module, make: Callable[[nn.Linear], nn.Module], ignored: Callable[[str], bool], name: str = ""
) -> nn.Module:
    """`module` with `make(layer)` in place of every linear layer whose name is not ignored."""
    if type(module) is nn.Linear:
        return module if ignored(name) else make(module)
    for child_name, child in list(module.named_children()):
        full_name = f"{name}.{child_name}" if name else child_name
        replaced = _replace(child, make, ignored, full_name)
        if replaced is not child:
            setattr(module, child_name, replaced)
    return module


class _Layers:
    """Our subclasses of the layers of bitsandbytes, made once it is imported."""

    def __init__(self, bnb: Any) -> None:
        class Linear4bit(bnb.nn.Linear4bit):
            """Takes weights of full precision, and quantised ones, from a `state_dict`."""

            def _load_from_state_dict(self: Any, state_dict: Any, prefix: str, *rest: Any) -> None:
                key, device = f"{prefix}weight", self.weight.device
                own = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
                stats = {name: own.pop(name) for name in list(own) if name.startswith(f"{key}.")}
                weight = own.get(key)
                if stats:
                    self.weight = bnb.nn.Params4bit.from_prequantized(
                        weight, stats, device=device, module=self
                    )
                elif weight is not None and weight.is_floating_point():
                    self.take(weight, quantise_on=device if self.weight.bnb_quantized else None)
                if key in own:
                    own[key] = self.weight.data
                super()._load_from_state_dict(own, prefix, *rest)  # pyright: ignore[reportUnknownMemberType]

            def take(self: Any, weight: torch.Tensor, quantise_on: torch.device | None = None) -> None:
                """Make `weight` the layer's, quantised if it was."""
                old = self.weight
                fresh = bnb.nn.Params4bit(
                    weight.detach(),
                    requires_grad=False,
                    compress_statistics=old.compress_statistics,
                    quant_type=old.quant_type,
                    quant_storage=old.quant_storage,
                    module=self,
                )
                self.weight = fresh if quantise_on is None else fresh.to(quantise_on)

        class Linear8bit(bnb.nn.Linear8bitLt):
            """Takes weights of full precision, and quantised ones, from a `state_dict`."""

            def _load_from_state_dict(self: Any, state_dict: Any, prefix: str, *rest: Any) -> None:
                key, device = f"{prefix}weight", self.weight.device
                own = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
                weight = own.get(key)
                quantised = self.weight.dtype == torch.int8
                if quantised and weight is not None and weight.is_floating_point():
                    self.take(weight.cpu())
                    self.weight = self.weight.to(device)
                    own[key] = self.weight.data
                elif quantised and self.weight.SCB is None:
                    # After a forward pass the scales are in `state`; loading looks for them at the weight.
                    self.weight.CB, self.weight.SCB = self.state.CB, self.state.SCB
                super()._load_from_state_dict(own, prefix, *rest)  # pyright: ignore[reportUnknownMemberType]

            def take(self: Any, weight: torch.Tensor) -> None:
                """Make `weight` the layer's; it is quantised when it is moved."""
                trains = self.state.has_fp16_weights
                self.weight = bnb.nn.Int8Params(
                    weight.detach(), requires_grad=trains, has_fp16_weights=trains
                )
                self.state.CB = self.state.SCB = None

        self.four: Any = Linear4bit
        self.eight: Any = Linear8bit
        self.bases = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)

    def make(self, linear: nn.Linear, mode: Mode, dtype: torch.dtype) -> nn.Module:
        """The quantised layer in place of `linear`, with its parameters."""
        sizes, bias = (linear.in_features, linear.out_features), cast("Any", linear).bias is not None
        with torch.device("meta"):
            if mode.startswith("int8"):
                trains = mode == "int8-training"
                threshold = 0.0 if trains else 6.0
                layer = self.eight(*sizes, bias=bias, has_fp16_weights=trains, threshold=threshold)
            else:
                kind, _, again = mode.partition("-")
                layer = self.four(
                    *sizes, bias=bias, compute_dtype=dtype, compress_statistics=again == "dq", quant_type=kind
                )
        layer.take(linear.weight)
        layer.bias = linear.bias
        return layer.train(linear.training)


@lru_cache(maxsize=1)
def _layers() -> _Layers:
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import bitsandbytes as bnb
        except ImportError as error:
            raise MissingPackageError("BitsandbytesPrecision", "bitsandbytes", error) from error
    return _Layers(bnb)
