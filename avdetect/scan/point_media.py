"""What is seen and heard of a clip beside its point on a map: a face, or some seconds of the sound, as data: URIs."""

from __future__ import annotations

import base64
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from PIL import Image

from avdetect.media import FaceTrack
from avdetect.transforms.silence import trim_silence

FACE_SIDE = 128  # pixels
HEARD_S = 3.0
MP3_BITS_PER_S = 32_000  # the one lossy format that every browser plays


def face_uri(track: FaceTrack) -> str:
    """The crop in the middle of a track with at least one, as a small JPEG."""
    image = Image.fromarray(track.crops[len(track.crops) // 2])
    image.thumbnail((FACE_SIDE, FACE_SIDE), Image.Resampling.LANCZOS)
    out = BytesIO()
    image.save(out, "jpeg", quality=80)
    return _uri("image/jpeg", out)


def sound_uri(audio: np.ndarray, rate: int) -> str:
    """float32 (T,) at `rate` Hz -> its first `HEARD_S` seconds after the silence, as mono MP3, at an even loudness.

    Loud and quiet voices are to be compared by ear: the peak is brought to -1 dB of full scale.
    """
    heard = np.array(trim_silence(audio, rate)[: round(HEARD_S * rate)], np.float32)
    peak = float(np.abs(heard).max(initial=0.0))
    heard *= 0.89 / peak if peak > 0 else 1.0
    out = BytesIO()
    with av.open(out, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="mono")
        stream.bit_rate = MP3_BITS_PER_S
        frame = av.AudioFrame.from_ndarray(heard[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return _uri("audio/mpeg", out)


def _uri(kind: str, data: BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
