"""LitData's typed wrappers of images, turned into ours when written."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from blixt.compat.litdata.core.media import Media, extension
from blixt.compat.litdata.core.pixels import file_behind, jpeg_quality, kind_of, opened, picture_of, saved
from blixt.data import types

_CAP = 95


@dataclass
class Image(Media):
    """An image: a file, an array (or tensor) or a PIL image.

    Args:
        mode: PIL's name of the colours to convert to.
        format: how an array or a PIL image is stored; PNG when None.
        quality: encode as JPEG of this quality, a file too.
        max_quality: encode as JPEG of this quality, but keep a JPEG that is no better.

    Raises:
        ValueError: for both qualities at once.
    """

    array: Any = None
    image: Any = None
    mode: str | None = None
    format: str | None = None
    quality: int | None = None
    max_quality: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rules(type(self).__name__, self.quality, self.max_quality)

    def encoded(self, kind: str | None = None) -> tuple[bytes, str]:
        """Return the file that LitData's serializers make, and its extension.

        They forget a quality where nothing says that the file is to be a JPEG.

        Args:
            kind: the format, where none was given.
        """
        if self.image is None and self.array is None:
            return self._file(kind)
        if self.max_quality is not None and (kept := file_behind(self.image)) and self._keeps(kept):
            return kept, "jpg"
        picture = picture_of(self.array) if self.image is None else self.image
        own = self._default if self.image is None else kind_of(picture)
        return self._saved(picture, self.format or kind or own)

    def stored(self) -> Any:
        """Return what our writer takes."""
        if self.is_plain_file:
            return self._wrapped(self.content())  # a path is read where the sample is written
        return self._wrapped(self.encoded("JPEG" if self.quality else self._kind)[0])

    _kind: ClassVar[str | None] = None
    _default: ClassVar[str] = "PNG"

    def _wrapped(self, content: Any) -> Any:
        return types.Image(content)

    @property
    def is_plain_file(self) -> bool:
        """Whether it is a file of which nothing is to be changed."""
        changes = self.mode or self.format or self.quality is not None or self.max_quality is not None
        return self.array is None and self.image is None and not changes

    def _file(self, kind: str | None) -> tuple[bytes, str]:
        content, ending = self.data(), extension(self.path)
        if self.is_plain_file:
            return content, ending or self._default.lower()
        if self.max_quality is not None and self._keeps(content):
            return content, ending or "jpg"
        return self._saved(opened(content), self.format or kind or ending or self._default)

    def _keeps(self, content: bytes) -> bool:
        return jpeg_quality(content) <= (self.max_quality or 0)

    def _saved(self, picture: Any, kind: str) -> tuple[bytes, str]:
        kind = kind if self.max_quality is None else "JPEG"
        return saved(picture, kind, self.quality or self.max_quality, self.mode)


@dataclass
class Jpeg(Image):
    """A JPEG; what is none becomes one of quality 95, and what is better too, unless a quality is given."""

    _kind: ClassVar[str | None] = "JPEG"
    _default: ClassVar[str] = "JPEG"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quality is None and self.max_quality is None:
            self.max_quality = _CAP

    def _wrapped(self, content: Any) -> Any:
        return types.Jpeg(content)


@dataclass
class Pil(Image):
    """An image that is read back as a PIL image, without loss."""

    def picture(self) -> Any:
        """Return the PIL image."""
        if self.image is None:
            picture = opened(self.data()) if self.array is None else picture_of(self.array)
        else:
            picture = self.image
        return picture.convert(self.mode) if self.mode and picture.mode != self.mode else picture

    def stored(self) -> Any:
        """Return what our writer takes."""
        return types.Png(saved(self.picture(), "PNG")[0])


@dataclass
class JpegArray:
    """Several JPEGs, with the same rules of quality; every sample must have as many.

    Raises:
        ValueError: for both qualities at once.
    """

    images: list[Any] = field(default_factory=list[Any])
    quality: int | None = None
    max_quality: int | None = None

    def __post_init__(self) -> None:
        if self.quality is None and self.max_quality is None:
            self.max_quality = _CAP
        _check_rules("JpegArray", self.quality, self.max_quality)

    def stored(self) -> Any:
        """Return what our writer takes."""
        return [self._jpeg(image).stored() for image in self.images]

    def _jpeg(self, image: Any) -> Jpeg:
        if isinstance(image, Jpeg):
            return image
        rules: dict[str, Any] = {"quality": self.quality, "max_quality": self.max_quality}
        if isinstance(image, Image):
            return Jpeg(image.path, image.bytes, image.array, image.image, image.mode, **rules)
        if isinstance(image, (bytes, bytearray)):
            return Jpeg(bytes=bytes(image), **rules)
        if isinstance(image, str):
            return Jpeg(path=image, **rules)
        return Jpeg(**{"image" if hasattr(image, "getbands") else "array": image}, **rules)


def _check_rules(kind: str, quality: int | None, max_quality: int | None) -> None:
    if quality is not None and max_quality is not None:
        raise ValueError(f"{kind}.quality and {kind}.max_quality are mutually exclusive.")
