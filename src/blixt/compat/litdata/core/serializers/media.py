"""Sounds, videos, volumes, meshes and documents: files as they are, decoded when read."""

import gzip
import io
import wave
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch

from blixt.compat.litdata.core.decoders import AudioDecoder, VideoDecoder
from blixt.compat.litdata.core.media import Audio, Mesh, Nifti, Pdf, Video, extension
from blixt.compat.litdata.core.serializers.base import Serialized, Serializer
from blixt.compat.litdata.core.serializers.files import is_a, is_file, path_of, read_file
from blixt.data.codecs.video import encode_video

_FULL_SCALE = 32767.0


class VideoSerializer(Serializer):
    """A video file.

    Args:
        decode: "decoder" for one that decodes on demand, "all" for frames, sound and a dict about them, or
            "bytes".
        seek_mode, device, num_ffmpeg_threads: of no meaning here: PyAV decodes, frame by frame, on the CPU.
        dimension_order: of the decoder's frames.
        stream_index: the first video is read; another is refused.
    """

    _EXTENSIONS = ("mp4", "ogv", "mjpeg", "avi", "mov", "h264", "mpg", "mpeg", "webm", "wmv", "mkv")

    def __init__(
        self,
        decode: str = "decoder",
        seek_mode: str = "approximate",
        device: str = "cpu",
        num_ffmpeg_threads: int = 1,
        dimension_order: str = "NCHW",
        stream_index: int | None = None,
    ) -> None:
        if decode not in ("all", "decoder", "bytes"):
            raise ValueError("VideoSerializer decode must be 'all', 'decoder', or 'bytes'.")
        if seek_mode not in ("exact", "approximate"):
            raise ValueError("seek_mode must be 'exact' or 'approximate'.")
        if stream_index:
            raise ValueError("VideoSerializer reads the first video of a file only; leave stream_index out")
        self.decode, self.seek_mode, self.device = decode, seek_mode, device
        self.num_ffmpeg_threads, self.dimension_order = num_ffmpeg_threads, dimension_order
        self.stream_index = stream_index

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, VideoDecoder):
            return data.data, "video:mp4"
        if isinstance(data, Video) and data.array is not None:
            return encode_video(data.frames(), data.fps), "video:mp4"
        content, kind = read_file(data)
        return content, f"video:{kind or 'mp4'}"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        content = bytes(data)
        if self.decode == "bytes":
            return content
        decoder = VideoDecoder(content, self.dimension_order if self.decode == "decoder" else "NHWC")
        if self.decode == "decoder":
            return decoder
        about: dict[str, Any] = {"video_fps": decoder.rate}
        try:
            sound = AudioDecoder(content).get_all_samples()
        except ValueError:
            return decoder.get_all_frames().data, torch.zeros(1, 0), about
        return decoder.get_all_frames().data, sound.data, {**about, "audio_fps": sound.sample_rate}

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, (Video, VideoDecoder)) or is_file(data, self._EXTENSIONS)


class AudioSerializer(Serializer):
    """A sound file, or a waveform as WAV of 16 bits.

    Args:
        decode: "decoder" for one that decodes on demand, "samples" for a tensor and its rate, or "bytes".
        sampling_rate: resample to it when read.
        num_channels: mix to so many when read.
        stream_index: which stream of a file with several.
    """

    _EXTENSIONS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "wma", "pcm")

    def __init__(
        self,
        decode: str = "decoder",
        sampling_rate: int | None = None,
        num_channels: int | None = None,
        stream_index: int | None = None,
    ) -> None:
        if decode not in ("decoder", "bytes", "samples"):
            raise ValueError("AudioSerializer decode must be 'decoder', 'bytes', or 'samples'.")
        self.decode, self.sampling_rate = decode, sampling_rate
        self.num_channels, self.stream_index = num_channels, stream_index

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, AudioDecoder):
            return data.data, "audio:wav"
        given: dict[str, Any] = cast("dict[str, Any]", data) if isinstance(data, dict) else _fields(data)
        rate = given.get("sampling_rate")
        if given.get("array") is not None:
            if rate is None:
                raise KeyError("Audio waveform encode requires sampling_rate.")
            return _wav(given["array"], int(rate)), "audio:wav"
        if extension(path_of(data)) == "pcm":
            if not (rate or self.sampling_rate):
                raise KeyError(
                    "To encode PCM, set Audio(sampling_rate=...) or AudioSerializer(sampling_rate=...)."
                )
            samples = np.frombuffer(read_file(data)[0], np.int16).astype(np.float32) / _FULL_SCALE
            return _wav(samples, int(rate or self.sampling_rate or 0)), "audio:wav"
        content, kind = read_file(data)
        return content, f"audio:{kind or 'wav'}"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        if self.decode == "bytes":
            return data
        decoder = AudioDecoder(bytes(data), self.sampling_rate, self.num_channels, self.stream_index)
        if self.decode == "decoder":
            return decoder
        sound = decoder.get_all_samples()
        return sound.data, sound.sample_rate

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, dict):
            given = cast("dict[str, Any]", data)
            if given.get("array") is not None and given.get("sampling_rate") is not None:
                return True
        return isinstance(data, (Audio, AudioDecoder)) or is_file(data, self._EXTENSIONS)


class NiftiSerializer(Serializer):
    """A NIfTI volume: the file as it is.

    Args:
        decode: return nibabel's image; the bytes when False.
    """

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        image = data
        if isinstance(data, Nifti):
            image = data.volume()
            if image is None:
                content, kind = read_file(data)
                return content, f"nifti:{kind or 'nii'}"
        if hasattr(image, "to_bytes") and hasattr(image, "affine"):
            path = getattr(cast("Any", getattr(image, "file_map", None) or {}).get("image"), "filename", None)
            if not path:
                return image.to_bytes(), "nifti:nii"
            data = str(path)
        return read_file(data)[0], f"nifti:{_volume_kind(data) or 'nii'}"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        if not self.decode:
            return data
        content = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else bytes(data)
        return import_module("nibabel").Nifti1Image.from_bytes(content)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, Nifti) or is_a(data, "nibabel", "SpatialImage"):
            return True
        return _volume_kind(data) is not None and (isinstance(data, dict) or is_file(data, ("nii", "gz")))


class MeshSerializer(Serializer):
    """A mesh: the file as it is, or what trimesh exports.

    Args:
        decode: return trimesh's object; the bytes when False.
    """

    _EXTENSIONS = ("glb", "ply", "stl")
    _kind = "glb"

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode

    def setup(self, metadata: Any) -> None:
        """Hear the format's name, such as `mesh:ply`."""
        if isinstance(metadata, str) and metadata.startswith("mesh:"):
            self._kind = metadata.partition(":")[2] or "glb"

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        mesh = data.mesh if isinstance(data, Mesh) else data
        if hasattr(mesh, "export"):
            about: Any = getattr(mesh, "metadata", None) or {}
            path = about.get("file_path") or about.get("file_name")
            if path and is_file(path, self._EXTENSIONS):
                data = str(path)
            else:
                kind = data.file_type if isinstance(data, Mesh) else "glb"
                made = mesh.export(file_type=kind)
                return made.encode() if isinstance(made, str) else bytes(made), f"mesh:{kind}"
        content, kind = read_file(data)
        if kind not in self._EXTENSIONS:
            raise ValueError("Mesh path must end with .glb, .ply, or .stl.")
        return content, f"mesh:{kind}"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        if not self.decode:
            return data
        return import_module("trimesh").load(io.BytesIO(data), file_type=self._kind)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, Mesh) or is_a(data, "trimesh", "Trimesh") or is_a(data, "trimesh", "Scene"):
            return True
        return is_file(data, self._EXTENSIONS)


class PDFSerializer(Serializer):
    """A PDF: the file as it is.

    Args:
        decode: return what pdfplumber opens; the bytes when False.
    """

    _EXTENSIONS = ("pdf",)

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        document = data.pdf if isinstance(data, Pdf) else data
        stream = getattr(document, "stream", None)
        if stream is not None:
            stream.seek(0)
            return stream.read(), "pdf"
        return read_file(data)[0], "pdf"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        return import_module("pdfplumber").open(io.BytesIO(data)) if self.decode else data

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, (bytes, bytearray)):
            return data.startswith(b"%PDF")
        return isinstance(data, Pdf) or is_a(data, "pdfplumber", "PDF") or is_file(data, self._EXTENSIONS)


def _fields(data: Any) -> dict[str, Any]:
    """Return the fields of a wrapper of sound, nothing for all else."""
    return vars(data) if isinstance(data, Audio) else {}


def _wav(array: Any, rate: int) -> bytes:
    samples = np.clip(np.asarray(array, np.float32), -1.0, 1.0)
    samples = samples[None] if samples.ndim == 1 else samples
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T * _FULL_SCALE).astype("<i2").tobytes())
    return out.getvalue()


def _volume_kind(data: Any) -> str | None:
    """Return `nii` or `nii.gz` where something names such a file."""
    path = (path_of(data) or "").lower().partition("?")[0]
    return next((kind for kind in ("nii.gz", "nii") if path.endswith(f".{kind}")), None)
