"""What a run says of itself: loss, speed, share of the device's peak, memory, and what the model writes."""

import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from blixt.fabric import Fabric, Logger, get_available_flops
from blixt.fabric.loggers.experiment import from_environment
from blixt.llm.config import ModelConfig
from blixt.llm.errors import RecipeError

LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow", "comet"]
_REMEMBERED = 500  # rows of metrics that a run logs at most unless it is told otherwise


@dataclass(frozen=True)
class LogConfig:
    """Where numbers and sample texts go.

    Attributes:
        loggers: Any of csv, tensorboard, wandb, mlflow, comet. A blixt Experiment is added in a blixt Job.
        dir: Folder of the loggers that write files; none is "logs" beside what the recipe writes.
        name: Of the run, for loggers that show several.
        every: Steps between two rows; 0 spreads 500 over the run.
        sample_every: Steps between two looks at what the model writes; 0 only at the beginning and the end.
        prompts: What it continues then.
        sample_tokens: How long.
        peak_flops: What one device does a second at best, for a share of it (MFU) on devices that blixt does
            not know.
    """

    loggers: tuple[LoggerName, ...] = ()
    dir: str | None = None
    name: str = "run"
    every: int = 0
    sample_every: int = 0
    prompts: tuple[str, ...] = ()
    sample_tokens: int = 32
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        for name in ("every", "sample_every", "sample_tokens"):
            if getattr(self, name) < 0:
                raise RecipeError(f"log.{name} is {getattr(self, name)}: it cannot be negative")


def make_loggers(config: LogConfig, folder: str | Path, experiment: bool = True) -> list[Logger]:
    """The loggers that the settings name, and the one of the blixt Job that this process is part of.

    Args:
        config: Which.
        folder: For those that write files, unless `config.dir` says where.
        experiment: Add the Job's Experiment; False on ranks other than 0, which log nothing.

    Raises:
        MissingPackageError: A tracker's package is not installed; the sentence says which.
    """
    import blixt.fabric as fabric

    where = Path(config.dir or folder)
    makers: dict[str, Callable[[], Logger]] = {
        "csv": lambda: fabric.CSVLogger(where, config.name),
        "tensorboard": lambda: fabric.TensorBoardLogger(where, config.name),
        "wandb": lambda: fabric.WandbLogger(name=config.name, save_dir=where),
        "mlflow": lambda: fabric.MLFlowLogger(experiment_name=config.name, save_dir=str(where)),
        "comet": lambda: fabric.CometLogger(name=config.name),
    }
    own = from_environment() if experiment else None
    return [*(makers[name]() for name in config.loggers), *([own] if own is not None else [])]


class Report:
    """Rows of metrics, for loggers and for the terminal; every rank calls it, rank 0 speaks.

    Time in `aside` (validation, samples, checkpoints) does not count against the speed.

    Args:
        fabric: Launched.
        config: How often.
        steps: Of the whole run.
        flops_per_token: Of one training step, see `flops_per_token`; 0 leaves the MFU out.

    Example:
        ```python
        report = Report(fabric, config.log, steps, flops_per_token(model, 1024))
        report.step(step, tokens, loss=loss, learning_rate=rate)
        with report.aside():
            report.log(step, {"val_loss": validate()})
        ```
    """

    def __init__(self, fabric: Fabric, config: LogConfig, steps: int, flops_per_token: float = 0.0) -> None:
        self.fabric, self.config, self.steps, self.flops_per_token = fabric, config, steps, flops_per_token
        self.every = config.every or max(1, steps // _REMEMBERED)
        self.peak = config.peak_flops or _peak(fabric)
        self._tokens: Tensor | float = 0
        self._since = time.perf_counter()
        self._last_line = 0.0

    def due(self, step: int) -> bool:
        """Whether `step`, counted from 1, gets a row."""
        return step % self.every == 0 or step in (1, self.steps)

    def samples_due(self, step: int) -> bool:
        """Whether to look at what the model writes after `step` steps; 0 is before the first."""
        wanted = self.config.sample_every
        return bool(self.config.prompts) and (step in (0, self.steps) or (wanted > 0 and step % wanted == 0))

    def step(self, step: int, tokens: Tensor | float, **metrics: Tensor | float) -> None:
        """Count a step, and log a row when one is due.

        Args:
            step: Steps done, this one included.
            tokens: Real tokens of the step over all ranks, padding not counted.
            **metrics: What else the row holds; tensors are read only when the row is due.
        """
        self._tokens = self._tokens + tokens
        if not self.due(step):
            return
        done = float(self._tokens)
        seconds = max(time.perf_counter() - self._since, 1e-9)
        row = {name: float(value) for name, value in metrics.items()}
        row |= {"tokens_per_s": done / seconds, "memory_gb": memory_gb(self.fabric.device)}
        if self.peak and self.flops_per_token:
            used = done * self.flops_per_token / seconds
            row["mfu"] = used / (self.peak * self.fabric.world_size)
        self.log(step, row)
        self._tokens, self._since = 0, time.perf_counter()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Send a row to the loggers, and print it unless one was printed just now.

        Rows are numbered from 0 in the loggers, as a row belongs to the step whose loss it holds.
        """
        self.fabric.log_dict(metrics, max(0, step - 1))
        now = time.monotonic()
        if now - self._last_line > 1.0 or step in (1, self.steps) or "loss" not in metrics:
            self._last_line = now
            numbers = "  ".join(f"{name} {_short(value)}" for name, value in metrics.items())
            self.say(f"step {step}/{self.steps}  {numbers}")

    def samples(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Print what the model wrote: pairs of prompt and continuation."""
        for prompt, text in pairs:
            self.say(f"step {step}/{self.steps}  sample {prompt!r} -> {text!r}")

    def say(self, line: str) -> None:
        """A line on stderr, from rank 0."""
        if self.fabric.is_global_zero:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def aside(self) -> Generator[None]:
        """What is done inside takes no training time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - began

    def close(self, status: str = "success") -> None:
        """Let the loggers write what they still hold."""
        for logger in self.fabric.loggers:
            logger.finalize(status)


def flops_per_token(model: nn.Module, config: ModelConfig, length: int) -> float:
    """Operations of forward and backward for one token of a sequence of `length`.

    Two for each weight that multiplies the token in forward, two for its gradient on the way back, and two
    more for the weight's own gradient if it is trained (Kaplan et al. 2020, arXiv:2001.08361); of stacked
    experts only those that a token visits; attention to the half of `length` that causality leaves, or to
    its window. Recomputed activations do not count: it is the share of useful work.
    """
    experts = config.moe.top_k / config.moe.experts if config.moe is not None else 1.0
    weights = 0.0
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or name.endswith("pos_embed.weight"):
            continue
        if name.endswith("embed.weight") and not config.tie:
            continue
        share = experts if ".experts." in f".{name}." else 1.0
        weights += share * parameter.numel() * (6 if parameter.requires_grad else 4)
    seen = [min(length / 2, spec.window or length) for spec in config.specs]
    attention = sum(12 * config.heads * config.head_dim * span for span in seen)
    return weights + attention


def memory_gb(device: torch.device) -> float:
    """The most memory this process has used so far: the device's on CUDA, else the process' own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _peak(fabric: Fabric) -> float | None:
    dtype = fabric.precision.compute_dtype or torch.get_default_dtype()
    return get_available_flops(fabric.device, dtype)


def _short(value: Any) -> str:
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
