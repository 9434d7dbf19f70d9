"""LitData's typed wrappers (`Image(path=...)`, `Text(text=...)` ...), turned into ours when written."""

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blixt.compat.litdata.core.refuse import UnsupportedArgument
from blixt.data import types


@dataclass
class Media:
    """A file: a path, or its bytes."""

    path: str | None = None
    bytes: "bytes | None" = None

    def content(self) -> Any:
        """Return the path or the bytes.

        Raises:
            TypeError: when there is neither.
        """
        if self.bytes is not None:
            return self.bytes
        if self.path is None:
            raise TypeError(f"{type(self).__name__} needs path=, bytes=, or a value of its own kind")
        return str(self.path)

    def data(self) -> "bytes":
        """Return the bytes of the file."""
        content = self.content()
        if isinstance(content, str):
            with open(content, "rb") as file:
                return file.read()
        return content

    def stored(self) -> Any:
        """Return what our writer takes."""
        return self.data()


@dataclass
class Image(Media):
    """An image: a file, an array (or tensor) or a PIL image."""

    array: Any = None
    image: Any = None
    mode: str | None = None
    format: str | None = None
    quality: int | None = None
    max_quality: int | None = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        picture = self._picture()
        if picture is None:
            if self.quality is not None or self.mode or self.format:
                raise UnsupportedArgument(
                    f"{type(self).__name__} of a file keeps the file: quality=, mode= and format= need "
                    "array= or image="
                )
            return self._wrapped(self.content())
        out = io.BytesIO()
        picture = picture.convert(self.mode) if self.mode else picture
        kind = self.format or self._default
        options = (
            {"quality": self.quality or self.max_quality or 95} if kind.upper() in ("JPEG", "JPG") else {}
        )
        picture.save(out, "JPEG" if kind.upper() == "JPG" else kind, **options)
        return self._wrapped(out.getvalue())

    _default = "PNG"

    def _wrapped(self, content: Any) -> Any:
        return types.Image(content)

    def _picture(self) -> Any:
        if self.image is not None:
            return self.image
        if self.array is None:
            return None
        from PIL import Image as Pillow

        return Pillow.fromarray(np.asarray(self.array))


@dataclass
class Jpeg(Image):
    """A JPEG."""

    _default = "JPEG"

    def _wrapped(self, content: Any) -> Any:
        return types.Jpeg(content)


@dataclass
class Pil(Image):
    """An image that is read back as a PIL image."""

    def _wrapped(self, content: Any) -> Any:
        return types.Png(content)

    def stored(self) -> Any:
        """Return what our writer takes."""
        if self._picture() is None:
            from PIL import Image as Pillow

            return Pil(image=Pillow.open(io.BytesIO(self.data())), mode=self.mode).stored()
        return super().stored()


@dataclass
class JpegArray:
    """Several JPEGs; every sample must have as many."""

    images: list[Any] = field(default_factory=list[Any])

    def stored(self) -> Any:
        """Return what our writer takes."""
        return [image.stored() if isinstance(image, Media) else types.Jpeg(image) for image in self.images]


@dataclass
class Tiff(Media):
    """A TIFF: a file or an array."""

    array: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        return types.Tiff(self.content() if self.array is None else np.asarray(self.array))


@dataclass
class Audio(Media):
    """A sound: a file, or an array with its rate."""

    array: Any = None
    sampling_rate: int | None = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        if self.array is None:
            return types.Audio(self.content())
        return types.Audio(np.asarray(self.array), rate=self.sampling_rate)


@dataclass
class Video(Media):
    """A video file."""

    def stored(self) -> Any:
        """Return what our writer takes."""
        return types.Video(self.content())


@dataclass
class Text(Media):
    """Text, or a text file."""

    text: str | None = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        return self.text if self.text is not None else self.data().decode()


@dataclass
class Tensor(Media):
    """A tensor or an array."""

    array: Any = None
    dtype: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        import torch

        if self.array is None:
            if self.dtype is None:
                raise TypeError("Tensor(path=...) and Tensor(bytes=...) need dtype=")
            return types.Tensor(torch.frombuffer(bytearray(self.data()), dtype=self.dtype))
        tensor = torch.as_tensor(self.array)
        return types.Tensor(tensor if self.dtype is None else tensor.to(self.dtype))


@dataclass
class Graph:
    """A graph: a `torch_geometric` one as `data`, or its tensors."""

    data: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        return types.Graph(self.data)


class File(Media):
    """Any file, kept as it is."""


class Mesh(Media):
    """A mesh file, kept as it is."""


class Pdf(Media):
    """A PDF, kept as it is."""


class Nifti(Media):
    """A NIfTI file, kept as it is."""
