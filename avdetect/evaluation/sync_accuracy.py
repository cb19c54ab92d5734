"""How often a lip-sync detector finds the right offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation.bootstrap import bootstrap_sums


@dataclass(frozen=True)
class OffsetAccuracy:
    """Share of offsets found within `within` grid frames, with a 95 % interval clustered by group."""

    accuracy: float
    low: float  # NaN where there is but one group
    high: float
    within: float
    count: int  # offsets judged, those that were not found among them
    not_found: int
    groups: int


def offset_accuracy(
    found: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None = None,
    within: float = 1,
    resamples: int = 2000,
    seed: int = 0,
) -> OffsetAccuracy:
    """Offsets found (N,) against true ones (N,), in grid frames; NaN where none was found, which counts as wrong.

    groups: (N,) names of what belongs together (speakers, recordings); None: each offset by itself. The interval is
    the percentile bootstrap over groups; with one group it is not known. Raises DataError for arrays of different
    or no length and for true offsets that are not finite.
    """
    found, truth = (np.asarray(x, dtype=np.float64).ravel() for x in (found, truth))
    names = np.arange(len(truth)) if groups is None else np.asarray(groups).ravel()
    if not len(truth) or not len(truth) == len(found) == len(names):
        raise DataError(
            f"offset accuracy needs as many offsets found as true ones and groups, one at least, not {len(found)}, "
            f"{len(truth)} and {len(names)}"
        )
    if not np.isfinite(truth).all():
        raise DataError("a true offset is not a number: leave clips of unknown offset out")
    right = np.abs(found - truth) <= within  # False for NaN
    codes = np.unique(names, return_inverse=True)[1]
    low = high = np.nan
    if codes.max() > 0:
        values = np.column_stack([right, np.ones(len(right))])
        sums = bootstrap_sums(values, codes, resamples, np.random.default_rng(seed))
        low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return OffsetAccuracy(
        float(right.mean()),
        float(low),
        float(high),
        float(within),
        len(right),
        int(np.isnan(found).sum()),
        int(codes.max()) + 1,
    )
