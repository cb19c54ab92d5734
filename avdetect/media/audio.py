"""Sound as mono float32 on the video's clock, streaming, through PyAV's resampler.

PyAV's resampler (libswresample) is used because it takes every sample format and channel layout that the
decoder gives, works frame by frame in the same pass as the video, and compensates its own filter delay.
Channels are averaged after it, as in `librosa.to_mono`: its own down-mix of float sound raises stereo by
sqrt(2).
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from avdetect.errors import MediaError
from avdetect.media.spool import SpooledArray
from avdetect.media.video import MediaReader

_TOLERANCE_S = 0.02  # smaller differences between time stamps and sample count are rounding, not gaps
_LONGEST_GAP_S = 600  # a longer one is a wrong time stamp


class AudioCollector:
    """Collects decoded audio frames as mono float32 at `sample_rate`, kept to their time stamps.

    Gaps between time stamps become silence, overlaps are dropped. Decoder priming (AAC, Opus, MP3) is removed
    by libavcodec from what the container says about it. Long recordings are spooled to a temporary file.
    """

    def __init__(self, sample_rate: int = 16000):
        self.sample_rate = sample_rate
        self.warnings: list[str] = []
        self.start_s: float | None = None  # of the first sample, on the container's clock
        self._samples = SpooledArray((), np.float32)
        self._source_s = 0.0  # seconds of source sound taken, silence included
        self._skip = 0  # output samples still to be dropped
        self._resampler: av.AudioResampler | None = None
        self._format: tuple | None = None

    def add(self, frame: av.AudioFrame) -> None:
        """Take one decoded frame."""
        time = None if frame.pts is None else float(frame.pts * frame.time_base)
        if self.start_s is None:
            self.start_s = time or 0.0
        error = 0.0 if time is None else time - self.start_s - self._source_s
        if abs(error) > _TOLERANCE_S:
            self._correct(error)
        layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if layout != self._format:
            self._flush()
            self._format = layout
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self.sample_rate)
        self._source_s += frame.samples / frame.sample_rate
        frame.pts = None  # the resampler shall count samples; gaps are handled here
        self._store(self._resampler.resample(frame))

    def _correct(self, error_s: float) -> None:
        """Bring the sample count back to the time stamps."""
        if abs(error_s) > _LONGEST_GAP_S:
            self.warnings.append(f"a jump of {error_s:.0f} s in the audio time stamps was ignored")
            self.start_s += error_s
            return
        self._flush()
        count = round(abs(error_s) * self.sample_rate)
        if error_s > 0:
            while count:
                block = min(count, 60 * self.sample_rate)
                self._samples.append(np.zeros(block, np.float32))
                count -= block
        else:
            self._skip += count
        self._source_s += error_s

    def _flush(self) -> None:
        if self._resampler is not None:
            self._store(self._resampler.resample(None))
            self._resampler = None

    def _store(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
            if not np.isfinite(mono).all():
                mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
                message = "the sound has samples that are no numbers; they became silence"
                if message not in self.warnings:
                    self.warnings.append(message)
            dropped = min(self._skip, len(mono))
            self._skip -= dropped
            self._samples.append(mono[dropped:])

    def finish(self, clock_start_s: float | None = None) -> np.ndarray | None:
        """(T,) float32 whose sample 0 is at `clock_start_s` of the container's clock (None: the first
        sample).

        A late start is filled with zeros, an early start is cut. None where no sound was decoded.
        """
        self._flush()
        if self.start_s is None or not len(self._samples):
            return None
        if clock_start_s is None:
            return self._samples.array()
        lead = round((self.start_s - clock_start_s) * self.sample_rate)
        if lead <= 0:
            return self._samples.array()[-lead:]
        if lead > _LONGEST_GAP_S * self.sample_rate:
            self.warnings.append(
                f"sound that starts {lead / self.sample_rate:.0f} s after the video was moved to its "
                "start: the time stamps cannot be right"
            )
            return self._samples.array()
        shifted = SpooledArray((), np.float32)
        shifted.append(np.zeros(lead, np.float32))
        samples = self._samples.array()
        for begin in range(0, len(samples), 2**20):
            shifted.append(samples[begin : begin + 2**20])
        return shifted.array()


def read_audio(path: str | Path, sample_rate: int = 16000) -> np.ndarray:
    """(T,) float32 mono at `sample_rate` of an audio or video file, from its first sample.

    Raises MediaError where there is none. For sound on the video's clock use `read_clip`.
    """
    collector = AudioCollector(sample_rate)
    with MediaReader(path, want_video=False) as reader:
        if reader.audio is None:
            raise MediaError(f"{path} has no audio track: give a file with sound.")
        for frame in reader:
            collector.add(frame)
    samples = collector.finish()
    if samples is None:
        raise MediaError(f"{path} announces sound but none could be decoded: copy or download it again.")
    return samples
