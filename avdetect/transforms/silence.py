"""Sound without the silence before and after it."""

from __future__ import annotations

import numpy as np

from avdetect.errors import ConfigError
from avdetect.media.loudness import BELOW_DB, sounding_span


def trim_silence(waveform: np.ndarray, rate: int, below_db: float = BELOW_DB) -> np.ndarray:
    """float (T,) at `rate` Hz -> (T',), T' <= T: from the first to the last 5 ms that are heard.

    In some datasets the silence before a fake voice tells it, so a score may come from the silence alone
    (Müller et al. 2021, arXiv 2106.12914; Boldisor et al. 2024, arXiv 2412.00175): a detector that has learned
    the voice scores as well without it. Heard is what is less than `below_db` decibels quieter than the
    loudest 5 ms; pauses inside stay. Where all is digital silence there is nothing to trim to, and the
    waveform comes back whole. Raises ConfigError unless `below_db` is positive.
    """
    if below_db <= 0:
        raise ConfigError(
            f"silence lies some decibels below the loudest sound: {below_db:g} dB are not below"
        )
    span = sounding_span(waveform, rate, below_db)
    return waveform if span is None else waveform[span[0] : span[1]]
