"""Whether hooks are generators where they must be."""

from typing import Any

from ..hooks import is_generator

ALL = """When `stream=True` with max_batch_size > 1, `lit_api.predict`, `lit_api.encode_response` and
                `lit_api.unbatch` must generate values using `yield`."""
BOTH = """When `stream=True` both `lit_api.predict` and
             `lit_api.encode_response` must generate values using `yield`."""
NEITHER = """When `stream=False`, `lit_api.predict` and `lit_api.encode_response` must not be
                generators: `return` the answer."""


def check_hooks(lit_api: Any) -> None:
    """Look at a LitAPI without a spec.

    Raises:
        ValueError: A hook yields and should not, or the other way round.
    """
    yielding = [is_generator(lit_api.predict), is_generator(lit_api.encode_response)]
    if not lit_api.stream:
        if any(yielding):
            raise ValueError(NEITHER)
        return
    if lit_api.max_batch_size > 1:
        own = lit_api._overrides("unbatch")  # pyright: ignore[reportPrivateUsage]
        if not all(yielding) or (own and not is_generator(lit_api.unbatch)):
            raise ValueError(ALL)
    if not all(yielding):
        raise ValueError(BOTH)
