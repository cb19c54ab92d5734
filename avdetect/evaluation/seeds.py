"""Several seeds of one recipe: mean, spread, and what they say about the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from avdetect.errors import ConfigError, DataError


@dataclass(frozen=True)
class SeedSummary:
    """Values of one metric over runs that differ in their seed alone.

    `std` is the sample standard deviation (n - 1); `low` and `high` bound the mean by Student's t with n - 1
    degrees of freedom at `level`. They are None, with the reason, where fewer than two runs have a value.
    The interval speaks of the training's randomness on one test set, not of other test sets.
    """

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    minimum: float | None
    maximum: float | None
    level: float
    values: tuple[float | None, ...]  # in the order of the runs; None = undefined in that run
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "values": list(self.values)}


def summarise_values(values: Sequence[float | None], level: float = 0.95) -> SeedSummary:
    """Summary of one metric, one value per seed; None and NaN are runs in which it is undefined.

    Raises DataError where there is no run or a value is infinite, ConfigError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ConfigError(f"The level of an interval lies in (0, 1), found {level}.")
    if not len(values):
        raise DataError("There are no runs to summarise: give the value of each seed.")
    runs = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if np.isinf(runs).any():
        raise DataError(f"Values of runs must be finite or missing, found {runs.tolist()}.")
    known = runs[~np.isnan(runs)]
    kept = tuple(None if np.isnan(value) else float(value) for value in runs)
    n, lacking = len(known), len(runs) - len(known)
    reason = f"undefined in {lacking} of {len(runs)} runs" if lacking else None
    if n == 0:
        return SeedSummary(0, None, None, None, None, None, None, level, kept, reason)
    mean, extremes = float(known.mean()), (float(known.min()), float(known.max()))
    if n == 1:
        reason = "; ".join(filter(None, ["one run has no spread: run more seeds", reason]))
        return SeedSummary(1, mean, None, None, None, *extremes, level, kept, reason)
    std = float(known.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / np.sqrt(n)
    return SeedSummary(n, mean, std, mean - half, mean + half, *extremes, level, kept, reason)


def summarise_seeds(
    runs: Sequence[Mapping[str, float | None]], level: float = 0.95
) -> dict[str, SeedSummary]:
    """One `SeedSummary` per metric of `runs` (one mapping name -> value per seed, all with the same
    names)."""
    if not runs:
        raise DataError("There are no runs to summarise: give the metrics of each seed.")
    names = list(runs[0])
    for position, run in enumerate(runs):
        if set(run) != set(names):
            strange = sorted(set(run) ^ set(names))
            raise DataError(f"Run {position} and run 0 differ in the metrics {strange}: evaluate them alike.")
    return {name: summarise_values([run[name] for run in runs], level) for name in names}
