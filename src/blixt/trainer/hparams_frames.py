"""What arguments an object is being made with: read from the running `__init__`s."""

import inspect
from types import FrameType
from typing import Any

from blixt.fabric import ConfigError


def caller_frame(file: str) -> FrameType | None:
    """The frame of whoever called into `file`."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (file, __file__):
        frame = frame.f_back
    return frame


def init_arguments(instance: object, frame: FrameType | None) -> dict[str, Any]:
    """The arguments of every `__init__` of `instance` that is running; those of subclasses win.

    Frames in between that belong to other objects are passed over: a module made within the `__init__` of
    another one keeps its own arguments only.

    Raises:
        ConfigError: When none is running.
    """
    found: dict[str, Any] = {}
    inside = False
    while frame is not None:
        if _is_init_of(frame, instance):
            inside = True
            found.update(_arguments(frame))
        frame = frame.f_back
    if not inside:
        fix = "Call it there, give frame=, or give the values themselves"
        raise ConfigError("save_hyperparameters()", "...", "it reads the arguments of __init__", fix)
    return found


def _is_init_of(frame: FrameType, instance: object) -> bool:
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is instance


def _arguments(frame: FrameType) -> dict[str, Any]:
    """By name; `**kwargs` are taken apart and `*args`, which have no names, left out."""
    code, values = frame.f_code, frame.f_locals
    named = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    arguments = {name: values[name] for name in named if name in values}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        position = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
        arguments |= values.get(code.co_varnames[position], {})
    return arguments
