"""Videos and sounds as LitData gives them: objects that decode on demand, here through PyAV."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from blixt.data.codecs.video import VideoClip
from blixt.data.foreign.optional import need
from blixt.data.types import Waveform

_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class Frames:
    """Some frames: `data` is uint8 `[N, C, H, W]`, or in the order that was asked for."""

    data: torch.Tensor


@dataclass(frozen=True, slots=True)
class Samples:
    """Some sound: `data` is float32 `[channels, frames]`."""

    data: torch.Tensor
    sample_rate: int


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What a video's file says of it."""

    num_frames: int
    average_fps: float
    height: int
    width: int
    duration_seconds: float


class VideoDecoder(VideoClip):
    """A video with the verbs of torchcodec's decoder of that name.

    Args:
        data: the file's bytes.
        dimension_order: "NCHW" or "NHWC".
    """

    def __init__(self, data: bytes, dimension_order: str = "NCHW") -> None:
        super().__init__(data)
        self._order = dimension_order

    @property
    def metadata(self) -> VideoMetadata:
        """What the file says; counting frames decodes them where it does not."""
        with self._open() as container:
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for _ in container.decode(video=0))
        return VideoMetadata(count, self.rate, self.shape[0], self.shape[1], self.duration_s)

    def __len__(self) -> int:
        return self.metadata.num_frames

    def __getitem__(self, index: int | slice) -> torch.Tensor:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self.get_frames_in_range(start, stop, step).data
        return self.get_frame_at(index if index >= 0 else index + len(self)).data

    def get_frame_at(self, index: int) -> Frames:
        """Decode one frame: `[C, H, W]`.

        Raises:
            IndexError: when there are not as many.
        """
        found = self.get_frames_in_range(index, index + 1).data
        if not len(found):
            raise IndexError(f"the video has no frame {index}")
        return Frames(found[0])

    def get_frames_at(self, indices: list[int]) -> Frames:
        """Decode frames by number, in one pass."""
        wanted = set(indices)
        found = {number: frame for number, frame in enumerate(self) if number in wanted}
        return self._arranged(np.stack([found[index] for index in indices]))

    def get_frames_in_range(self, start: int, stop: int, step: int = 1) -> Frames:
        """Decode a range of frames by number."""
        return self._arranged(self.frames(start, stop, step))

    def get_all_frames(self) -> Frames:
        """Decode all frames."""
        return self._arranged(self.frames())

    def _arranged(self, frames: Any) -> Frames:
        arranged = frames.transpose(0, 3, 1, 2) if self._order == "NCHW" else frames
        return Frames(torch.as_tensor(np.ascontiguousarray(arranged)))


class AudioDecoder:
    """A sound with the verbs of torchcodec's decoder of that name, and `["array"]`, `["sampling_rate"]`.

    Args:
        data: the file's bytes.
        sample_rate: resample to it; the file's own when None.
        num_channels: mix to so many; the file's own when None.
        stream_index: which of several streams of sound; the first when None.
    """

    def __init__(
        self,
        data: bytes,
        sample_rate: int | None = None,
        num_channels: int | None = None,
        stream_index: int | None = None,
    ) -> None:
        self.data = data
        self._wanted = sample_rate, num_channels, stream_index

    def get_all_samples(self) -> Samples:
        """Decode the sound.

        Raises:
            ValueError: when the file holds none.
        """
        rate, channels, stream_index = self._wanted
        av = need("av", "media")
        with av.open(io.BytesIO(self.data)) as container:
            if not container.streams.audio:
                raise ValueError("the file holds no sound")
            stream = container.streams.audio[0] if stream_index is None else container.streams[stream_index]
            layout = stream.layout.name if channels is None else _LAYOUTS.get(channels, f"{channels}c")
            resampler = av.AudioResampler("fltp", layout, rate or stream.rate)
            frames = [*container.decode(stream), None]  # None asks for what the resampler holds back
            blocks = [block.to_ndarray() for frame in frames for block in resampler.resample(frame)]
            found = np.concatenate(blocks, axis=1) if blocks else np.empty((channels or 1, 0), np.float32)
            return Samples(torch.as_tensor(found), rate or stream.rate)

    def get_samples_played_in_range(
        self, start_seconds: float = 0.0, stop_seconds: float | None = None
    ) -> Samples:
        """Decode what is heard between two moments."""
        whole = self.get_all_samples()
        end = None if stop_seconds is None else round(stop_seconds * whole.sample_rate)
        return Samples(whole.data[:, round(start_seconds * whole.sample_rate) : end], whole.sample_rate)

    def __getitem__(self, key: str) -> Any:
        whole = self.get_all_samples()
        if key == "array":
            array = whole.data.numpy()
            return array[0] if len(array) == 1 else array
        if key == "sampling_rate":
            return whole.sample_rate
        raise KeyError(key)

    @property
    def waveform(self) -> Waveform:
        """The sound as `blixt.data` gives it."""
        whole = self.get_all_samples()
        return Waveform(whole.data.numpy().T, whole.sample_rate)
