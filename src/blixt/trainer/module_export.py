"""A trained module for programs without it: ONNX files, exported programs, TensorRT engines."""

import copy
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Never, cast

import torch
from torch import nn

from blixt.fabric import ConfigError, FabricError, to_device


class Exporting(nn.Module):
    """Writes what `forward` computes in formats that need no Python class."""

    example_input_array: Any

    def to_onnx(
        self, file_path: str | os.PathLike[str] | Any = None, input_sample: Any = None, **kwargs: Any
    ) -> Any:
        """Write the module as an ONNX file; needs the packages onnx and onnxscript.

        Args:
            file_path: The file, or a binary file object; None to only return the program.
            input_sample: What `forward` takes: a tensor, a tuple or a dict; default `example_input_array`.
            kwargs: For `torch.onnx.export`, such as `dynamic_shapes` or `input_names`.

        Returns:
            The `torch.onnx.ONNXProgram`, or None from the old exporter (`dynamo=False`).
        """
        if kwargs.get("dynamo", True):
            _need("onnxscript", "to_onnx()")
        args, by_name = self._sample("to_onnx(input_sample)", input_sample)
        kwargs.setdefault("dynamo", True)
        if by_name:
            kwargs.setdefault("kwargs", by_name)
        with self._at_rest():
            program = cast("Any", torch.onnx).export(
                self, args, None if kwargs["dynamo"] else file_path, **kwargs
            )
        if program is not None and file_path is not None:
            program.save(file_path)
        return program

    def to_torch_export(
        self,
        file_path: str | os.PathLike[str] | Any = None,
        input_sample: Any = None,
        *,
        dynamic_shapes: Any = None,
        strict: bool = False,
    ) -> torch.export.ExportedProgram:
        """Capture `forward` as a `torch.export` program, which runs without this class.

        Args:
            file_path: A `.pt2` file to write; None to only return the program.
            input_sample: What `forward` takes: a tensor, a tuple or a dict; default `example_input_array`.
            dynamic_shapes: Which sizes may change, as `torch.export.export` has it.
            strict: Trace Python's bytecode, which finds more that cannot be exported.

        Example:
            >>> from blixt.trainer.boring import BoringModel
            >>> program = BoringModel().to_torch_export(input_sample=torch.ones(4, 32))
            >>> program.module()(torch.ones(4, 32)).shape
            torch.Size([4, 2])
        """
        args, by_name = self._sample("to_torch_export(input_sample)", input_sample)
        with self._at_rest():
            program = torch.export.export(
                _Forward(self), args, by_name, dynamic_shapes=dynamic_shapes, strict=strict
            )
        if file_path is not None:
            torch.export.save(program, cast("Any", file_path))
        return program

    def to_torchscript(self, *args: Any, **kwargs: Any) -> Never:
        """Gone: torch has retired TorchScript. Use `to_torch_export`."""
        raise FabricError("to_torchscript: torch has retired TorchScript. Use to_torch_export or to_onnx.")

    def to_tensorrt(
        self, file_path: str | os.PathLike[str] | None = None, input_sample: Any = None, **compile_kwargs: Any
    ) -> Any:
        """Compile with torch_tensorrt for the CUDA device that the module is on.

        Args:
            file_path: Where to save the engine; None to only return it.
            input_sample: What `forward` takes; default `example_input_array`.
            compile_kwargs: For `torch_tensorrt.compile`.
        """
        tensorrt = _need("torch_tensorrt", "to_tensorrt()")
        first = next(self.parameters(), None)
        if first is None or first.device.type != "cuda":
            reason = "the module is not on a CUDA device"
            raise ConfigError(
                "to_tensorrt()", None if first is None else str(first.device), reason, "Move it there"
            )
        args, by_name = self._sample("to_tensorrt(input_sample)", input_sample)
        with self._at_rest():
            engine = tensorrt.compile(self, arg_inputs=args, kwarg_inputs=by_name, **compile_kwargs)
        if file_path is not None:
            tensorrt.save(engine, file_path, arg_inputs=args, kwarg_inputs=by_name)
        return engine

    def _sample(self, argument: str, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for `forward`, on the module's device."""
        sample = self.example_input_array if given is None else given
        if sample is None:
            reason = "an export follows an example through forward"
            raise ConfigError(argument, None, reason, "Give one, or set example_input_array")
        first = next(self.parameters(), None)
        sample = to_device(copy.deepcopy(sample), first.device if first is not None else torch.device("cpu"))
        if isinstance(sample, dict):
            return (), cast("dict[str, Any]", sample)
        return (cast("tuple[Any, ...]", sample) if isinstance(sample, tuple) else (sample,)), {}

    @contextmanager
    def _at_rest(self) -> Generator[None]:
        """In evaluation mode and without gradients; afterwards every part is in the mode it had."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode


class _Forward(nn.Module):
    """Only the forward pass of a module: what an exporter may look at, without trainer and logbook."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def _need(package: str, owner: str) -> Any:
    from importlib import import_module

    from blixt.fabric.errors import MissingPackageError

    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPackageError(owner, package, error) from error
