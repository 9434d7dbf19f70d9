"""What a module is made of: layers, parameters, shapes and floating-point operations."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from blixt.fabric import ConfigError

_UNITS = " KMBTPEZY"


@dataclass
class LayerSummary:
    """One layer.

    Attributes:
        name: Its path in the module.
        layer_type: Its class.
        num_parameters: All below it; -1 for lazy ones that do not exist yet. Sharded ones count whole.
        training: Whether it is in training mode.
        in_size: Shapes of what went in, "?" when nothing did.
        out_size: Shapes of what came out.
        flops: Operations of one forward pass below it.
    """

    name: str
    layer_type: str
    num_parameters: int
    training: bool
    in_size: Any = "?"
    out_size: Any = "?"
    flops: int = 0


class ModelSummary:
    """The layers of a module down to some depth.

    With an `example_input_array` one forward pass, without gradients and in evaluation mode, tells shapes and
    operations.

    Args:
        model: The module.
        max_depth: How many levels of submodules; 0 for none, -1 for all.

    Raises:
        ConfigError: For a depth below -1.

    Example:
        >>> summary = ModelSummary(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> summary.total_parameters, summary.layer_names
        (9, ['0', '1'])
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        if not isinstance(max_depth, int) or max_depth < -1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                "ModelSummary(max_depth)", max_depth, "it counts levels", "Use -1 for all of them"
            )
        self._model = model
        self._max_depth = max_depth
        self.layers: list[LayerSummary] = [
            LayerSummary(name, type(m).__name__, count_parameters(m), m.training)
            for name, m in self.named_modules
        ]
        self.total_flops = 0
        self._measured = False
        example = getattr(model, "example_input_array", None)
        if example is not None:
            self._run(example)

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The modules that are listed, with their paths."""
        depth = self._max_depth
        every = cast("list[tuple[str, nn.Module]]", list(cast("Any", self._model).named_modules())[1:])
        return every if depth == -1 else [(n, m) for n, m in every if n.count(".") < depth]

    @property
    def layer_names(self) -> list[str]:
        """Their paths."""
        return [layer.name for layer in self.layers]

    @property
    def layer_types(self) -> list[str]:
        """Their classes."""
        return [layer.layer_type for layer in self.layers]

    @property
    def in_sizes(self) -> list[Any]:
        """Shapes of what went into each."""
        return [layer.in_size for layer in self.layers]

    @property
    def out_sizes(self) -> list[Any]:
        """Shapes of what came out of each."""
        return [layer.out_size for layer in self.layers]

    @property
    def param_nums(self) -> list[int]:
        """Parameters of each."""
        return [layer.num_parameters for layer in self.layers]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each is in training mode."""
        return [layer.training for layer in self.layers]

    @property
    def flop_counts(self) -> list[int]:
        """Operations of each."""
        return [layer.flops for layer in self.layers]

    @property
    def total_parameters(self) -> int:
        """All parameters; shared and sharded ones count once, lazy ones not at all."""
        return self._count(lambda p: True)

    @property
    def trainable_parameters(self) -> int:
        """Those that are trained."""
        return self._count(lambda p: p.requires_grad)

    def _count(self, wanted: Callable[[nn.Parameter], bool]) -> int:
        parameters = list(self._model.parameters())
        if any(is_lazy(p) for p in parameters):
            warnings.warn(
                "The module has lazy layers: their parameters (UninitializedParameter) are not counted "
                "before the first batch.",
                stacklevel=3,
            )
        return sum(_numel(p) for p in parameters if wanted(p) and not is_lazy(p))

    @property
    def total_layer_params(self) -> int:
        """Parameters in the listed layers of the first level."""
        return sum(layer.num_parameters for layer in self.layers if "." not in layer.name)

    @property
    def model_size(self) -> float:
        """Size of the parameters in megabytes (10**6 bytes)."""
        return sum(_numel(p) * p.element_size() for p in self._model.parameters() if not is_lazy(p)) * 1e-6

    @property
    def total_training_modes(self) -> dict[str, int]:
        """How many submodules are in training and in evaluation mode."""
        modes = [module.training for module in list(self._model.modules())[1:]]
        return {"train": sum(modes), "eval": len(modes) - sum(modes)}

    def rows(self) -> list[dict[str, str]]:
        """The table: one dict a layer, and one for parameters outside of all layers."""
        rows: list[dict[str, str]] = []
        for index, layer in enumerate(self.layers):
            row = {
                "": str(index),
                "Name": layer.name,
                "Type": layer.layer_type,
                "Params": get_human_readable_count(layer.num_parameters)
                if layer.num_parameters >= 0
                else "?",
                "Mode": "train" if layer.training else "eval",
            }
            if self._measured:
                row["FLOPs"] = get_human_readable_count(layer.flops)
                row |= {"In sizes": str(layer.in_size), "Out sizes": str(layer.out_size)}
            rows.append(row)
        left = self.total_parameters - self.total_layer_params if self._max_depth else 0
        if rows and left > 0 and not any(layer.num_parameters < 0 for layer in self.layers):
            rest = dict.fromkeys(rows[0], "-")
            rows.append(rest | {"": " ", "Name": "other params", "Params": get_human_readable_count(left)})
        return rows

    def totals(self) -> list[tuple[str, str]]:
        """What stands below the table, as pairs of a number and its meaning."""
        total, trained = self.total_parameters, self.trainable_parameters
        lazy = any(is_lazy(parameter) for parameter in self._model.parameters())
        mark = " (lazy ones do not count yet)" if lazy else ""
        modes = self.total_training_modes
        totals = [
            (get_human_readable_count(trained), "Trainable params"),
            (get_human_readable_count(total - trained), "Non-trainable params"),
            (get_human_readable_count(total), f"Total params{mark}"),
            (get_formatted_model_size(self.model_size), "Total estimated model params size (MB)"),
            (str(modes["train"]), "Modules in train mode"),
            (str(modes["eval"]), "Modules in eval mode"),
        ]
        flops = [(get_human_readable_count(self.total_flops), "Total FLOPs")]
        return totals + flops if self._measured else totals

    def __str__(self) -> str:
        rows = self.rows()
        below = [f"{number:<10}{meaning}" for number, meaning in self.totals()]
        if not rows:
            return "\n".join(below)
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
        head = " | ".join(f"{name:<{width}}" for name, width in widths.items())
        lines = [" | ".join(f"{row[name]:<{width}}" for name, width in widths.items()) for row in rows]
        rule = "-" * len(head)
        return "\n".join([head, rule, *lines, rule, *below])

    def __repr__(self) -> str:
        return str(self)

    # --- one forward pass -------------------------------------------------------------------------

    def _run(self, example: Any) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        model, seen = self._model, _Shapes()
        modes = {module: module.training for module in model.modules()}
        handles = [m.register_forward_hook(seen.hook_of(name)) for name, m in self.named_modules]
        batch = _to(example, next((p.device for p in model.parameters()), torch.device("cpu")))
        counter = FlopCounterMode(display=False)
        model.eval()
        try:
            with torch.no_grad(), counter, _precision_of(model):
                _call(model, batch)
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode
        self.total_flops, self._measured = counter.get_total_flops(), True
        counts: dict[str, Any] = counter.get_flop_counts()
        prefix = type(model).__name__
        for layer in self.layers:
            layer.in_size, layer.out_size = seen.sizes.get(layer.name, ("?", "?"))
            layer.flops = sum(counts.get(f"{prefix}.{layer.name}", {}).values())


@dataclass
class _Shapes:
    """What went into and came out of each module when it was called first."""

    sizes: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, "tuple[Any, Any]"])

    def hook_of(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.sizes.setdefault(name, (_shape(inputs), _shape(output)))

        return hook


def summarize(module: nn.Module, max_depth: int = 1) -> ModelSummary:
    """The summary of a module; `print` shows it as a table."""
    return ModelSummary(module, max_depth)


def count_parameters(module: nn.Module) -> int:
    """Parameters below a module; -1 if some are lazy."""
    parameters = list(module.parameters())
    return -1 if any(is_lazy(p) for p in parameters) else sum(_numel(p) for p in parameters)


def is_lazy(parameter: Any) -> bool:
    """Whether a parameter waits for the first batch to get its shape."""
    return isinstance(parameter, UninitializedParameter)


def get_human_readable_count(number: int) -> str:
    """A count in at most a few digits.

    Example:
        >>> [get_human_readable_count(n) for n in (123, 1234, 20_000_000, 3 * 10**9)]
        ['123', '1.2 K', '20.0 M', '3.0 B']
    """
    size, unit = float(number), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    if unit == 0:
        return str(int(number))
    return f"{size:.1f} {_UNITS[unit]}" if size < 100 else f"{int(size)} {_UNITS[unit]}"


def get_formatted_model_size(total_model_size: float) -> str:
    """A size in megabytes for people."""
    return f"{total_model_size:,.3f}"


def parse_batch_shape(batch: Any) -> Any:
    """The shape of a tensor, those of a list, or "?"."""
    return _shape(batch)


def _numel(parameter: nn.Parameter) -> int:
    """Elements of the whole parameter: a DTensor gives its global shape, a quantised one its logical one."""
    state = getattr(parameter, "quant_state", None)
    shape: Iterable[int] = parameter.shape if state is None else state.shape
    return int(torch.Size(shape).numel())


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return list(value.shape) or "?"
    if isinstance(value, (list, tuple)):
        shapes = [_shape(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return (shapes[0] if len(shapes) == 1 else shapes) or "?"
    return "?"


def _to(example: Any, device: torch.device) -> Any:
    from blixt.fabric import to_device

    return to_device(example, device)


def _precision_of(model: nn.Module) -> Any:
    trainer = getattr(model, "_trainer", None)
    from contextlib import nullcontext

    return nullcontext() if trainer is None else trainer.fabric.autocast()


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, (list, tuple)):
        model(*batch)
    elif isinstance(batch, dict):
        model(**batch)
    else:
        model(batch)
