"""LitData's typed wrappers (`Image(path=...)`, `Text(text=...)` ...), turned into ours when written."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import numpy as np

from blixt.compat.litdata.core.refuse import refuse
from blixt.data import types
from blixt.data.codecs.video import encode_video

bytes_type = bytes  # the fields named bytes hide it


def extension(path: Any) -> str:
    """Return a path's extension in lower case, without the dot; the query of an address does not count."""
    return os.path.splitext(str(path).split("?", 1)[0])[1].replace(".", "").lower() if path else ""


@dataclass
class Media:
    """A file: a path, or its bytes.

    Raises:
        TypeError: for `bytes` that are none.
    """

    path: str | None = None
    bytes: "bytes | None" = None

    def __post_init__(self) -> None:
        if self.path is not None:
            self.path = str(self.path)
        given: Any = self.bytes
        if given is not None and not isinstance(given, (bytes_type, bytearray)):
            raise TypeError(f"{type(self).__name__}.bytes must be bytes, got {type(given)}")
        self.bytes = None if given is None else bytes_type(given)

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
class Tiff(Media):
    """A TIFF: a file, an array or a PIL image."""

    array: Any = None
    image: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        pixels = self.image if self.array is None else self.array
        return types.Tiff(self.content() if pixels is None else np.asarray(pixels))


@dataclass
class Audio(Media):
    """A sound: a file, or an array with its rate."""

    array: Any = None
    sampling_rate: int | None = None
    num_channels: int | None = None
    stream_index: int | None = None

    def stored(self) -> Any:
        """Return what our writer takes.

        Raises:
            UnsupportedArgument: for what LitData's decoder is told.
        """
        refuse("Audio", "choose when reading", num_channels=self.num_channels, stream_index=self.stream_index)
        if self.array is None:
            return types.Audio(self.content())
        return types.Audio(np.asarray(self.array), rate=self.sampling_rate)


@dataclass
class Video(Media):
    """A video: a file, or an array of frames, which becomes an MP4."""

    array: Any = None
    fps: float = 25.0
    stream_index: int | None = None
    dimension_order: str = "NCHW"
    num_ffmpeg_threads: int = 1
    seek_mode: str = "approximate"
    device: str = "cpu"

    def stored(self) -> Any:
        """Return what our writer takes.

        Raises:
            UnsupportedArgument: for what LitData's decoder is told.
        """
        gpu = None if self.device == "cpu" else self.device
        refuse("Video", "choose when reading", stream_index=self.stream_index, device=gpu)
        if self.array is None:
            return types.Video(self.content())
        return types.Video(encode_video(self.frames(), self.fps))

    def frames(self) -> Any:
        """Return the frames of `array`, uint8 `[N, H, W, C]`, whichever way round they were given.

        Raises:
            ValueError: when they have not four dimensions.
        """
        frames = np.asarray(self.array)
        if frames.ndim != 4:
            raise ValueError("Video(array=...) must be (N, H, W, C) or (N, C, H, W).")
        if frames.shape[1] in (1, 3) and frames.shape[-1] not in (1, 3):
            frames = frames.transpose(0, 2, 3, 1)
        return frames.astype(np.uint8)


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

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape.

        Raises:
            AttributeError: when there is no array.
        """
        if self.array is None:
            raise AttributeError("Tensor.shape requires array=")
        return tuple(self.array.shape)

    def stored(self) -> Any:
        """Return what our writer takes."""
        import torch

        if self.array is None:
            if self.dtype is None:
                raise TypeError("Tensor(path=...) and Tensor(bytes=...) need dtype=")
            return types.Tensor(torch.frombuffer(bytearray(self.data()), dtype=self.dtype))
        tensor = torch.as_tensor(self.array)
        return types.Tensor(tensor if self.dtype is None else tensor.to(self.dtype))


GRAPH_FIELDS = ("x", "edge_index", "edge_attr", "y", "pos", "batch")
"""The fields that a `Graph` has by name."""


@dataclass
class Graph:
    """A graph: its tensors, and a `torch_geometric` one or a dict as `data`, which the tensors override."""

    x: Any = None
    edge_index: Any = None
    edge_attr: Any = None
    y: Any = None
    pos: Any = None
    batch: Any = None
    data: Any = None

    def to_mapping(self) -> dict[str, Any]:
        """Return the graph's tensors by name.

        Raises:
            TypeError: when `data` is something else than a graph.
        """
        whole: Any = {} if self.data is None else self.data
        whole = whole.to_dict() if hasattr(whole, "to_dict") else whole
        if not isinstance(whole, dict):
            raise TypeError("Graph.data= must be a PyG Data, a dict, or omitted.")
        given = {name: getattr(self, name) for name in GRAPH_FIELDS if getattr(self, name) is not None}
        return {**cast("dict[str, Any]", whole), **given}

    def to_pyg(self) -> Any:
        """Return it as a `torch_geometric` graph."""
        return import_module("torch_geometric.data").Data.from_dict(self.to_mapping())

    def stored(self) -> Any:
        """Return what our writer takes; a graph of `torch_geometric` comes back, where that is installed."""
        try:
            return types.Graph(self.to_pyg())
        except ImportError:
            return types.Graph(self.to_mapping())


class File(Media):
    """Any file, kept as it is."""


@dataclass
class Mesh(Media):
    """A mesh: a file, or one of trimesh."""

    mesh: Any = None
    file_type: str = "glb"

    def stored(self) -> Any:
        """Return what our writer takes."""
        if self.mesh is None:
            return self.data()
        made = self.mesh.export(file_type=self.file_type)
        return made.encode() if isinstance(made, str) else made


@dataclass
class Pdf(Media):
    """A PDF: a file, or one that pdfplumber opened."""

    pdf: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        if self.pdf is None:
            return self.data()
        self.pdf.stream.seek(0)
        return self.pdf.stream.read()


@dataclass
class Nifti(Media):
    """A NIfTI volume: a file, an image of nibabel, or an array and its affine."""

    image: Any = None
    array: Any = None
    affine: Any = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        image = self.volume()
        return self.data() if image is None else image.to_bytes()

    def volume(self) -> Any:
        """Return the image of nibabel, None where there is a file."""
        if self.image is not None or self.array is None:
            return self.image
        affine = np.eye(4) if self.affine is None else self.affine
        return import_module("nibabel").Nifti1Image(np.asarray(self.array), affine)
