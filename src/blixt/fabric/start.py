"""The verb of Fabric that makes processes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from blixt.fabric.errors import LaunchError, WrongTypeError
from blixt.fabric.launch import die_with_launcher, in_notebook, launch_function, launch_script, share_cores
from blixt.fabric.place import Place
from blixt.fabric.pulse import start_pulse
from blixt.fabric.rank_zero import rank_zero_only

T = TypeVar("T")


class Starting(Place):
    """Makes this machine's processes, or joins those that somebody else made."""

    _rebuild: dict[str, Any]
    _own_names: set[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "run" in vars(cls):
            setattr(cls, "run", _launching(vars(cls)["run"]))  # noqa: B010 - the class has no such attribute

    def launch(self, function: Callable[..., T] | None = None, *args: Any, **kwargs: Any) -> T | None:
        """Be one of `world_size` processes.

        Without a function, and when nobody else (torchrun, a cluster, a blixt Job) made the processes, the
        script runs again once per rank, from its beginning; this process waits for them and exits as they
        did. Further calls without a function do nothing.

        Args:
            function: Called as `function(fabric, *args, **kwargs)`, in fresh processes when more than one is
                asked for. It and its arguments must be picklable then, unless the strategy forks.
            args: For the function.
            kwargs: For the function.

        Returns:
            What the function returned, on rank 0 if the processes were made here.

        Raises:
            WrongTypeError: When the function is not one that takes the Fabric, or is missing although the
                strategy spawns.
            LaunchError: When a process could not be started or failed.
        """
        if function is not None:
            _check_function(function)
        how = self._strategy.launcher
        if self._plan.world is not None:
            self._connect()
            return function(self, *args, **kwargs) if function is not None else None
        processes, nodes = len(self._plan.device_indices), self._plan.num_nodes
        self._plan.environment.validate_settings(processes, nodes)
        if function is None or how == "script":
            if how in ("spawn", "fork", "forkserver"):
                reason = f"strategy {self._rebuild['strategy']!r} makes processes for a function"
                raise WrongTypeError("launch(function)", None, reason, "Give one: launch(train)")
            launch_script(processes, nodes)
        extras = {name: value for name, value in vars(self).items() if name not in self._own_names}
        entry = (type(self), self._rebuild, extras, function, args, kwargs)
        return launch_function(
            processes, _run_in_rank, entry, how or ("fork" if in_notebook() else "spawn"), nodes
        )

    def _connect(self) -> None:
        if self._launched:
            return
        plan = self._plan
        if plan.world is None:
            raise LaunchError(
                f"Fabric(devices=...) asks for {plan.world_size} processes and this is the only one. "
                "Call fabric.launch() before setup."
            )
        die_with_launcher()
        share_cores(self._world.local_world_size)
        plan.accelerator.setup_device(self._device)
        plan.environment.publish(self._world)
        rank_zero_only.rank = self._world.rank
        self._strategy.connect(self._world, plan.accelerator.backend)
        if self._world.world_size > 1:
            start_pulse(self._world, self._strategy.side_channel())
        self._launched = True


def _run_in_rank(
    kind: type[Starting],
    rebuild: dict[str, Any],
    extras: dict[str, Any],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    from blixt.fabric.fabric import Fabric

    fabric: Any = object.__new__(kind)
    Fabric.__init__(fabric, **rebuild)
    for name, value in extras.items():
        setattr(fabric, name, value)
    return fabric.launch(function, *args, **kwargs)


def _launching(run: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's `run`, which launches before it runs."""

    @functools.wraps(run)
    def launched(self: Starting, *args: Any, **kwargs: Any) -> Any:
        if self._plan.world is not None:  # pyright: ignore[reportPrivateUsage]
            self.launch()
            return run(self, *args, **kwargs)
        if self.strategy.launcher in (None, "script"):
            return self.launch()
        return self.launch(_call_run, *args, **kwargs)

    return launched


def _call_run(fabric: Any, *args: Any, **kwargs: Any) -> Any:
    return fabric.run(*args, **kwargs)


def _check_function(function: Any) -> None:
    if not callable(function):
        raise WrongTypeError(
            "launch(function)", function, "it cannot be called", "Give the function itself, not its result"
        )
    if not inspect.signature(function).parameters:
        name = getattr(function, "__name__", function)
        raise WrongTypeError(
            "launch(function)", name, "it takes no argument", "Let it take the fabric as its first"
        )
