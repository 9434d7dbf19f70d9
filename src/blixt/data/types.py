"""Wrappers with which a sample says how a value is to be stored, where its Python type leaves a choice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tokens:
    """One document of a token stream: stored flat, one after the other, and read in blocks of any length.

    Args:
        values: the token ids, a sequence of integers or a 1-D integer array.
        dtype: the stored integer type by name; None keeps an array's own type and takes uint32 for a
            sequence.

    Example:
        >>> Tokens([1, 2, 3], dtype="uint16").array().dtype.name
        'uint16'
    """

    values: Sequence[int] | npt.NDArray[np.integer]
    dtype: str | None = None

    def array(self) -> npt.NDArray[np.integer]:
        """Return the ids as a 1-D array of the stored type.

        Raises:
            ValueError: when the ids are not 1-D integers, or one does not fit the type.
        """
        array = np.asarray(self.values)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"tokens must be a 1-D array of integers, got {array.dtype} of shape {array.shape}"
            )
        target = np.dtype(self._dtype_name(array))
        if array.dtype == target:
            return array
        limits = np.iinfo(target)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise ValueError(f"token ids {array.min()}..{array.max()} do not fit {target.name}")
        return array.astype(target)

    def _dtype_name(self, array: npt.NDArray[np.integer]) -> str:
        if self.dtype is not None:
            return self.dtype
        return array.dtype.name if isinstance(self.values, np.ndarray) else "uint32"


@dataclass(frozen=True, slots=True)
class Ragged:
    """An array whose shape differs from sample to sample; a plain array must keep the first one's shape."""

    array: npt.NDArray[np.generic]
