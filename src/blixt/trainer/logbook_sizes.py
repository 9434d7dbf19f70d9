"""How much a batch counts in an epoch's mean."""

import warnings
from typing import Any

from blixt.fabric import ConfigError, tensors


class BatchSizes:
    """Infers the rows of a batch once, and warns once when its tensors disagree about them."""

    def __init__(self) -> None:
        self._of: Any = None
        self._size = 1
        self._compared = False

    def of(self, name: str, batch: Any) -> int:
        """The first dimension of the first tensor in `batch`.

        Raises:
            ConfigError: When there is no tensor in it.
        """
        if self._of is not batch or batch is None:
            self._size = self._infer(name, batch)
            self._of = batch
        return self._size

    def _infer(self, name: str, batch: Any) -> int:
        sizes = (tensor.shape[0] if tensor.ndim else 1 for tensor in tensors(batch))
        first = next(sizes, None)
        if first is None:
            reason = (
                f"{name}: the batch, a {type(batch).__name__}, holds no tensor whose rows could be its weight"
            )
            raise ConfigError("log(batch_size)", None, reason, "Pass batch_size=")
        if not self._compared:
            self._compared = True
            other = next((size for size in sizes if size != first), None)
            if other is not None:
                warnings.warn(
                    f"log({name!r}): the batch holds tensors of {first} and of {other} rows; the epoch mean "
                    f"is weighted by {first}. Pass batch_size= if that is wrong.",
                    stacklevel=6,
                )
        return first
