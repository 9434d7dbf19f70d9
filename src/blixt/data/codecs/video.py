"""Video files, stored as they are; frames are decoded when they are asked for."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.codecs.plain import optional, read_bytes
from blixt.data.types import Video

Frame = npt.NDArray[np.uint8]


class VideoClip:
    """A video in its file format; nothing is decoded until frames are asked for.

    Args:
        data: the file's bytes.

    Example:
        `for frame in clip: ...` decodes one after the other; `clip.frames(30, 60, 2)` gives every second
        frame of the second second at 30 frames per second.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def rate(self) -> float:
        """Frames per second."""
        with self._open() as container:
            return float(container.streams.video[0].average_rate or 0)

    @property
    def duration_s(self) -> float:
        """How long it plays, in seconds, as the file says."""
        with self._open() as container:
            return (container.duration or 0) / 1e6

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and 3."""
        with self._open() as container:
            stream = container.streams.video[0]
            return stream.height, stream.width, 3

    def __iter__(self) -> Iterator[Frame]:
        """Decode the frames one after the other: uint8 `[H, W, 3]`."""
        with self._open() as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Frame:
        """Decode a range of frames by number: uint8 `[frames, H, W, 3]`.

        Frames before `start` are decoded and dropped, since a file need not say where a frame by number
        begins.
        """
        if start < 0 or step < 1 or (stop is not None and stop < 0):
            raise ValueError(f"frames count from 0 and forward, got start={start}, stop={stop}, step={step}")
        chosen: list[Frame] = []
        with self._open() as container:
            for number, frame in enumerate(container.decode(video=0)):
                if stop is not None and number >= stop:
                    break
                if number >= start and (number - start) % step == 0:
                    chosen.append(frame.to_ndarray(format="rgb24"))
        return np.stack(chosen) if chosen else np.empty((0, *self.shape), np.uint8)

    def _open(self) -> Any:
        return _av().open(io.BytesIO(self.data))


class VideoCodec:
    """Whatever FFmpeg reads."""

    name = "video"

    def encode(self, value: Any) -> bytes:
        """Return the file's bytes."""
        if type(value) is not Video:
            raise TypeError(f"expected Video(...), got {type(value).__name__}")
        return read_bytes(value.value, "Video")

    def decode(self, stored: memoryview) -> VideoClip:
        """Return the clip, which holds a copy of the bytes."""
        return VideoClip(bytes(stored))


def _av() -> Any:
    return optional("av", "video needs PyAV")


def encode_video(frames: np.ndarray[Any, Any], rate: float = 25.0) -> bytes:
    """Return frames (uint8 `[frames, height, width, 3]`) as an MP4.

    Raises:
        MissingDependencyError: when av is not installed.
    """
    av = _av()
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.bit_rate = 8 * frames[0].size  # a byte for each value: hardly any loss
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()
