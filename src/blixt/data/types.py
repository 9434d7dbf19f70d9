"""Wrappers with which a sample says how a value is to be stored, where its Python type leaves a choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

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
class Array:
    """An array whose shape differs from sample to sample; a plain array must keep the first one's shape."""

    array: npt.NDArray[Any]


Ragged = Array
"""The older name of `Array`."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A torch tensor whose shape differs from sample to sample; it is read back as a tensor."""

    tensor: Any


@dataclass(slots=True)
class Wrapped:
    """Base of the wrappers that name a column type of their own.

    Args:
        value: what to store; where a path makes sense, the file is read when the sample is written.
    """

    type: ClassVar[str]
    value: Any


@dataclass(slots=True)
class Text(Wrapped):
    """Text, the same as a bare `str`: never taken for a path."""

    type: ClassVar[str] = "utf8"


@dataclass(slots=True)
class Json(Wrapped):
    """Anything that JSON can say, of a shape that may differ from sample to sample."""

    type: ClassVar[str] = "json"


@dataclass(slots=True)
class Jpeg(Wrapped):
    """A JPEG: its bytes, a path, a PIL image or a uint8 array `[H, W, 3]` or `[H, W]`.

    Bytes and files are stored as they are. It is decoded to a uint8 array `[H, W, 3]`.

    Args:
        value: what to store.
        quality: for arrays and PIL images, 1 to 100.
    """

    type: ClassVar[str] = "jpeg"
    quality: int = 92


@dataclass(slots=True)
class Png(Wrapped):
    """A PNG: its bytes, a path, a PIL image or a uint8 or uint16 array. Decoded to an array."""

    type: ClassVar[str] = "png"


@dataclass(slots=True)
class Tiff(Wrapped):
    """A TIFF: its bytes, a path or an array of any shape and type. Decoded to that array."""

    type: ClassVar[str] = "tiff"


@dataclass(slots=True)
class Image(Wrapped):
    """An image file that Pillow reads: its bytes or a path; a PIL image or an array is stored as PNG.

    A bare PIL image in a sample is the same. Decoded to an array `[H, W, C]`, or `[H, W]` where it is grey.
    """

    type: ClassVar[str] = "image"


@dataclass(slots=True)
class Audio(Wrapped):
    """A sound file (WAV, FLAC, OGG, MP3): bytes or a path, or an array `[frames]` or `[frames, channels]`.

    Decoded to a `Waveform`. Arrays of int16 are stored as FLAC, others as WAV of float32; nothing is lost.

    Args:
        value: what to store.
        rate: frames per second, needed for an array.
    """

    type: ClassVar[str] = "audio"
    rate: int | None = None


@dataclass(slots=True)
class Video(Wrapped):
    """A video file that FFmpeg reads: bytes or a path; read back as a `VideoClip`, decoded on demand."""

    type: ClassVar[str] = "video"


@dataclass(slots=True)
class Graph(Wrapped):
    """A graph: a dict of arrays, tensors, numbers and texts, or a `torch_geometric.data.Data`.

    A bare `Data` in a sample is the same. A `Data` is read back as one where torch_geometric is installed,
    everything else as a dict.
    """

    type: ClassVar[str] = "graph"


@dataclass(slots=True)
class File(Wrapped):
    """A file as it is: a path, or its bytes and a name. Read back as a `StoredFile`."""

    type: ClassVar[str] = "file"
    name: str | None = None


@dataclass(slots=True)
class Pickle(Wrapped):
    """Any object, pickled. The writer and the reader must both say `allow_pickle=True`.

    Reading a pickle runs whatever code its author put in: only for data that you wrote yourself.
    """

    type: ClassVar[str] = "pickle"


@dataclass(slots=True)
class Coded(Wrapped):
    """A value in a codec of your own; readers pass the same codec in `codecs={name: codec}`.

    Args:
        value: what the codec's `encode` takes.
        codec: it has a `name` and the methods `encode(value) -> bytes` and `decode(memoryview) -> value`.
    """

    type: ClassVar[str] = "user"
    codec: "Codec"


@dataclass(frozen=True, slots=True)
class Waveform:
    """Decoded sound.

    Attributes:
        samples: float32 `[frames, channels]`, from -1 to 1.
        rate: frames per second.
    """

    samples: npt.NDArray[np.float32]
    rate: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was stored as it is.

    Attributes:
        name: its name without folders.
        data: its bytes.
    """

    name: str
    data: bytes


class Codec(Protocol):
    """How values of one column type become bytes and back; picklable, to reach worker processes."""

    @property
    def name(self) -> str:
        """The name that the dataset stores."""
        ...

    def encode(self, value: Any) -> bytes:
        """Return the stored bytes of a value.

        Raises:
            TypeError, ValueError: when the value is not of this kind.
        """
        ...

    def decode(self, stored: memoryview) -> Any:
        """Return the value; it must not look into `stored` later.

        Raises:
            ValueError: when the bytes are not of this kind.
        """
        ...
