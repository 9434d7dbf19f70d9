"""Sound files, stored as they are and decoded to float32 waveforms."""

import io
from typing import Any

import numpy as np

from blixt.data.codecs.plain import optional, read_bytes
from blixt.data.types import Audio, Waveform

_BLOCK_FRAMES = 1 << 18
_MAX_SAMPLES = 1 << 29


class AudioCodec:
    """Whatever libsndfile reads: WAV, FLAC, OGG, MP3."""

    name = "audio"

    def encode(self, value: Any) -> bytes:
        """Return the file's bytes; arrays become FLAC (int16) or WAV of float32."""
        if type(value) is not Audio:
            raise TypeError(f"expected Audio(...), got {type(value).__name__}")
        content: Any = value.value
        if isinstance(content, np.ndarray):
            return _write(content, value.rate)
        return read_bytes(content, "Audio")

    def decode(self, stored: memoryview) -> Waveform:
        """Return the waveform."""
        with _soundfile().SoundFile(io.BytesIO(stored)) as file:
            blocks: list[Any] = []
            samples = 0
            while len(block := file.read(_BLOCK_FRAMES, "float32", always_2d=True)):
                blocks.append(block)
                samples += block.size
                if samples > _MAX_SAMPLES:
                    raise ValueError(f"the sound is longer than {_MAX_SAMPLES} samples")
            whole = np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)
            return Waveform(whole, file.samplerate)


def _write(samples: Any, rate: int | None) -> bytes:
    if rate is None:
        raise ValueError("sound given as an array needs its rate: Audio(samples, rate=16000)")
    out = io.BytesIO()
    if samples.dtype == np.int16:
        _soundfile().write(out, samples, rate, format="FLAC", subtype="PCM_16")
    elif samples.dtype == np.float32:
        _soundfile().write(out, samples, rate, format="WAV", subtype="FLOAT")
    else:
        raise ValueError(f"sound must be an array of int16 or float32, got {samples.dtype}")
    return out.getvalue()


def _soundfile() -> Any:
    return optional("soundfile", "sound needs soundfile")
