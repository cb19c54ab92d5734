"""What is heard, small enough to stand inside the page."""

from __future__ import annotations

import base64
from io import BytesIO

import av
import numpy as np

_BITS_PER_SECOND = 32_000  # AAC at 16 kHz mono: speech is plain, a minute takes 240 kB
_BLOCK = 1 << 14


def sound_uri(samples: np.ndarray, rate: int) -> str:
    """(T,) float mono at `rate` Hz -> data: URI of AAC in MP4, which every browser plays and finds its way in."""
    out = BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        stream.bit_rate = _BITS_PER_SECOND
        for start in range(0, len(samples), _BLOCK):
            block = np.clip(samples[start : start + _BLOCK], -1, 1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block[None]), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return f"data:audio/mp4;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
