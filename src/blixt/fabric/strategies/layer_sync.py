"""Layers that need the batches of all processes: batch normalisation."""

from abc import ABC, abstractmethod
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]


class LayerSync(ABC):
    """Replaces layers by ones that see what all processes see."""

    @abstractmethod
    def apply(self, module: nn.Module) -> nn.Module:
        """The module with its layers replaced; call it before optimizers are made."""

    @abstractmethod
    def revert(self, module: nn.Module) -> nn.Module:
        """The module with ordinary layers again, their parameters and statistics kept."""


class TorchSyncBatchNorm(LayerSync):
    """torch's `SyncBatchNorm` in place of every batch normalisation."""

    def apply(self, module: nn.Module) -> nn.Module:
        """See `torch.nn.SyncBatchNorm.convert_sync_batchnorm`."""
        return cast("Any", nn.SyncBatchNorm).convert_sync_batchnorm(module)

    def revert(self, module: nn.Module) -> nn.Module:
        """Ordinary batch normalisation, for any number of dimensions, in place of `SyncBatchNorm`."""
        if isinstance(module, nn.SyncBatchNorm):
            return _plain(module)
        for name, child in module.named_children():
            module.add_module(name, self.revert(child))
        return module


class AnyBatchNorm(_BatchNorm):
    """Batch normalisation of inputs with any number of dimensions, as `SyncBatchNorm` accepts them."""

    def _check_input_dim(self, input: Any) -> None:
        """Everything is accepted: the layer that this one stands for accepted it."""


def _plain(layer: nn.SyncBatchNorm) -> nn.Module:
    plain = AnyBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    for name, parameter in layer.named_parameters(recurse=False):
        plain.register_parameter(name, parameter)
    for name, buffer in layer.named_buffers(recurse=False):
        plain.register_buffer(name, buffer)
    plain.train(layer.training)
    for attribute in ("qconfig",):
        if hasattr(layer, attribute):
            setattr(plain, attribute, getattr(layer, attribute))
    return plain
