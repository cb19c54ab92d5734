"""From the logits of frames, windows or tracks to one logit per clip, by a named rule.

| `how` | logit of the clip |
|---|---|
| `mean_logit` | mean of the logits |
| `mean_probability` | logit of the mean of P(fake) = sigmoid(logit) |
| `top_K`, such as `top_10` | mean of the K highest logits, of all where there are fewer |
| `max` | highest logit |
| `max_track` | mean of the logits in each face track, then the highest track |
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from avdetect.errors import ConfigError, DataError

AGGREGATIONS = ("mean_logit", "mean_probability", "top_K", "max", "max_track")


def aggregate(
    keys: ArrayLike, logits: ArrayLike, how: str = "mean_logit", tracks: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frame level to clip level: the clips in order of first appearance (C,) and their logits (C,).

    `keys` (F,) names the clip of each frame, `logits` (F,) are finite, `how` is a rule of this module;
    `tracks` (F,) names the track of each frame inside its clip (for `max_track` alone). The result is a
    logit under every rule, so that one calibration can follow. Raises DataError on unknown keys or logits
    that are not finite, ConfigError on an unknown rule.
    """
    top = re.fullmatch(r"top_([1-9]\d*)", how)
    if how not in AGGREGATIONS and not top or how == "top_K":
        raise ConfigError(
            f"Unknown aggregation {how!r}: choose one of {', '.join(AGGREGATIONS)} (K is a number of frames)."
        )
    codes, clips = pd.factorize(np.asarray(keys).ravel())
    values = np.asarray(logits, dtype=np.float64).ravel()
    if len(codes) != len(values):
        raise DataError(f"{len(codes)} frame keys but {len(values)} logits: give one logit per frame.")
    if (codes < 0).any() or not np.isfinite(values).all():
        raise DataError("Frame keys and logits must be known and finite: drop frames without a score first.")
    if (tracks is not None) != (how == "max_track"):
        raise DataError(f"The aggregation {how!r} {'takes no' if tracks is not None else 'needs'} tracks.")
    if tracks is not None:
        codes, values = _track_means(codes, values, tracks)
    if top:
        result = _top_means(codes, values, int(top[1]))
    elif how == "mean_probability":
        # The mean of P and of 1 - P each from logarithms: neither rounds to 0 where all frames are sure.
        result = _log_mean(codes, -np.logaddexp(0, -values)) - _log_mean(codes, -np.logaddexp(0, values))
    elif how == "mean_logit":
        result = _means(codes, values)
    else:
        result = _maxima(codes, values)
    return np.asarray(clips), result


def aggregate_mean_logit(keys: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """`aggregate` by the mean of logits, the package's default."""
    return aggregate(keys, logits, "mean_logit")


def _means(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(codes, weights=values) / np.bincount(codes)


def _maxima(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    result = np.full(codes.max(initial=-1) + 1, -np.inf)
    np.maximum.at(result, codes, values)
    return result


def _log_mean(codes: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """log(mean(exp(logs))) per code."""
    highest = _maxima(codes, logs)
    return highest + np.log(_means(codes, np.exp(logs - highest[codes])))


def _top_means(codes: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    order = np.lexsort((-values, codes))
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = order[rank < k]
    return _means(codes[chosen], values[chosen])


def _track_means(codes: np.ndarray, values: np.ndarray, tracks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """`(clip code, mean logit)` of every track."""
    track_codes, names = pd.factorize(np.asarray(tracks).ravel())
    if len(track_codes) != len(codes) or (track_codes < 0).any():
        raise DataError(f"{len(codes)} frames need one known track each, found {(track_codes >= 0).sum()}.")
    pairs, owners = pd.factorize(codes * max(len(names), 1) + track_codes)
    return owners // max(len(names), 1), _means(pairs, values)
