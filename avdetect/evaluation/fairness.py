"""Does the detector err alike on everybody? Gaps between groups of any manifest column(s).

`aiface_fairness` is the benchmark's own set of numbers; `group_report` gives every group its rates, sizes and
intervals (fairlearn's MetricFrame). Labels 1 and high scores mean fake; a positive is a clip called fake.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.bootstrap import bootstrap_auc, bootstrap_sums
from avdetect.evaluation.metrics import check_scores, group_codes, roc_auc

# metric -> (outcomes counted above the line, outcomes below it); see `_outcomes`
RATES = {
    "accuracy": (("tp", "tn"), ("tp", "tn", "fp", "fn")),
    "false_positive_rate": (("fp",), ("fp", "tn")),
    "true_positive_rate": (("tp",), ("tp", "fn")),
    "positive_rate": (("tp", "fp"), ("tp", "tn", "fp", "fn")),
}
GROUP_METRICS = (*RATES, "roc_auc")
OUTCOMES = ("tp", "tn", "fp", "fn")
MIN_SIZE = 30


def aiface_fairness(
    labels: ArrayLike, scores: ArrayLike, groups: Sequence[Any] | np.ndarray, threshold: float = 0.5
) -> dict[str, Any]:
    """The fairness metrics of AI-Face (Lin et al., CVPR 2025), in per cent, 0 = equal treatment.

    F_FPR: largest less smallest false-positive rate over the groups; F_OAE: the same of accuracy; F_DP: the
    larger gap of the rates of clips called fake and called genuine; F_MEO: the largest gap of FPR, FNR, TPR
    and TNR. Fake = score >= `threshold`. As in the benchmark's program, groups of one class alone are left
    out; they are named under "left_out". Below two groups the metrics are None, with the "reason". Extreme
    values of many small groups lie far apart by chance: see the sizes in `group_report`.
    """
    y, s = check_scores(labels, scores)
    names = _names(groups, len(y))
    rates: dict[str, list[float]] = {name: [] for name in ("fpr", "fnr", "tpr", "tnr", "acc", "pos", "neg")}
    used, left_out = [], {}
    for name in sorted(set(names)):
        chosen = names == name
        if len(set(y[chosen])) < 2:
            left_out[name] = f"its {int(chosen.sum())} clips are of one class"
            continue
        used.append(name)
        tp, tn, fp, fn = _outcomes(y[chosen], s[chosen], threshold).sum(axis=0)
        n = tp + tn + fp + fn
        found = {
            "fpr": fp / (fp + tn), "fnr": fn / (fn + tp), "tpr": tp / (tp + fn), "tnr": tn / (tn + fp),
            "acc": (tp + tn) / n, "pos": (tp + fp) / n, "neg": (tn + fn) / n,
        }  # fmt: skip
        for rate, value in found.items():
            rates[rate].append(value)
    report: dict[str, Any] = {"groups": used, "left_out": left_out, "threshold": threshold}
    if len(used) < 2:
        reason = f"{len(used)} of {len(used) + len(left_out)} groups have both classes: two are needed"
        return {"F_FPR": None, "F_OAE": None, "F_DP": None, "F_MEO": None, **report, "reason": reason}
    gap = {rate: 100 * float(max(values) - min(values)) for rate, values in rates.items()}
    return {
        "F_FPR": gap["fpr"],
        "F_OAE": gap["acc"],
        "F_DP": max(gap["pos"], gap["neg"]),
        "F_MEO": max(gap[rate] for rate in ("fpr", "fnr", "tpr", "tnr")),
        **report,
        "reason": None,
    }


def group_report(
    labels: ArrayLike,
    scores: ArrayLike,
    columns: pd.DataFrame | Mapping[str, ArrayLike],
    sources: Sequence[Any] | np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    min_size: int = MIN_SIZE,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Rates of every group that the values of `columns` make, several columns giving their intersections.

    `columns`: name -> (N,) values, missing = not known: such clips are left out and counted ("n_unknown").
    `sources` (N,): recordings, drawn whole in the bootstrap; None = every clip its own.

    "groups": per group "group" (column -> value), "n", "n_fake", "n_real", "n_sources", "metrics" (name ->
    "value", "low", "high": 95 % percentile interval, and "reason"). A value is given only where at least
    `min_size` clips stand below its line (genuine ones for the false-positive rate, fakes for the
    true-positive rate, each class for the AUC); elsewhere it is None and the reason says how many there are,
    and the group takes no part in that metric's gap. "overall", "difference" (largest less smallest) and
    "ratio" (smallest by largest): metric -> value or None; "aiface": `aiface_fairness` of the same groups.
    """
    y, s = check_scores(labels, scores)
    if min_size < 1 or resamples < 1:
        raise ConfigError(f"min_size and resamples start at 1, found {min_size} and {resamples}.")
    features = _features(columns, len(y))
    codes = np.arange(len(y)) if sources is None else group_codes(sources, len(y))
    known = features.notna().all(axis=1).to_numpy()
    if not known.any():
        raise DataError(f"No clip has a value in all of {list(features.columns)}: choose other columns.")
    y, s, codes, features = y[known], s[known], codes[known], features[known].astype(str)
    frame = _metric_frame(y, s, features, threshold, min_size)
    entries, rng = [], np.random.default_rng(seed)
    for values, rows in features.reset_index(drop=True).groupby(list(features.columns), sort=True):
        at = rows.index.to_numpy()
        own = pd.factorize(codes[at])[0]
        metrics = _with_intervals(
            frame.by_group.loc[_row(values)], y[at], s[at], own, threshold, min_size, resamples, rng
        )
        sizes = {"n": len(at), "n_fake": int(y[at].sum()), "n_real": int((1 - y[at]).sum())}
        group = dict(zip(features.columns, values, strict=True))
        entries.append({"group": group, **sizes, "n_sources": int(own.max()) + 1, "metrics": metrics})
    return {
        "columns": list(features.columns), "threshold": threshold, "min_size": min_size, "n": len(y),
        "n_unknown": int((~known).sum()), "groups": entries,
        "overall": _plain(frame.overall), **_gaps(frame),
        "aiface": aiface_fairness(y, s, _joined(features), threshold),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": 0.95, "clustered": sources is not None},
        "warnings": _warnings(entries, min_size),
    }  # fmt: skip


def group_table(report: dict[str, Any]) -> pd.DataFrame:
    """A `group_report` as one row per group, to be printed: columns, sizes, metrics with `_low` and
    `_high`."""
    rows = []
    for entry in report["groups"]:
        row = {**entry["group"], **{k: entry[k] for k in ("n", "n_fake", "n_real", "n_sources")}}
        for name, found in entry["metrics"].items():
            row |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def _names(groups: Sequence[Any] | np.ndarray, n: int) -> np.ndarray:
    group_codes(groups, n)
    return np.array([str(group) for group in groups], dtype=object)


def _features(columns: pd.DataFrame | Mapping[str, ArrayLike], n: int) -> pd.DataFrame:
    features = pd.DataFrame({str(name): pd.Series(list(columns[name]), dtype=object) for name in columns})
    if not len(features.columns):
        raise DataError("There is no column to group by: name at least one.")
    if len(features) != n:
        raise DataError(f"{n} clips but {len(features)} rows of groups: give one value per clip.")
    return features


def _joined(features: pd.DataFrame) -> np.ndarray:
    names = features.iloc[:, 0].astype(object)
    for column in features.columns[1:]:
        names = names + ", " + features[column].astype(object)
    return names.to_numpy()


def _outcomes(y: np.ndarray, s: np.ndarray, threshold: float) -> np.ndarray:
    """(N, 4) of 0 and 1: tp, tn, fp, fn."""
    called = s >= threshold
    fake = y == 1
    return np.column_stack([called & fake, ~called & ~fake, called & ~fake, ~called & fake]).astype(np.int64)


def _lacking(metric: str, y: np.ndarray, min_size: int) -> str | None:
    """Why these clips are too few for the metric, or None."""
    fakes, genuine = int(y.sum()), int((1 - y).sum())
    needs = {
        "false_positive_rate": ("genuine",),
        "true_positive_rate": ("fake",),
        "roc_auc": ("fake", "genuine"),
    }
    for kind in needs.get(metric, ("all",)):
        there = {"fake": fakes, "genuine": genuine, "all": len(y)}[kind]
        if there < min_size:
            what = "clips" if kind == "all" else f"{kind} clips"
            return f"too small: {there} {what}, {min_size} are needed"
    return None


def _metric_frame(
    y: np.ndarray, s: np.ndarray, features: pd.DataFrame, threshold: float, min_size: int
) -> Any:
    from fairlearn.metrics import MetricFrame  # slow to import, and needed here alone

    functions: dict[str, Callable] = {
        name: partial(_rate, metric=name, threshold=threshold, min_size=min_size) for name in GROUP_METRICS
    }
    return MetricFrame(metrics=functions, y_true=y, y_pred=s, sensitive_features=features)


def _rate(y: np.ndarray, s: np.ndarray, *, metric: str, threshold: float, min_size: int) -> float:
    """One metric of one group; NaN where it is too small for it."""
    y, s = np.asarray(y), np.asarray(s)
    if _lacking(metric, y, min_size):
        return np.nan
    if metric == "roc_auc":
        return roc_auc(y, s)
    return float(_quotient(_outcomes(y, s, threshold).sum(axis=0, keepdims=True), metric)[0])


def _quotient(counts: np.ndarray, metric: str) -> np.ndarray:
    """(B,) of a rate from counts (B, 4) of outcomes; NaN where nothing stands below the line."""
    above, below = (
        counts[:, [OUTCOMES.index(name) for name in names]].sum(axis=1).astype(float)
        for names in RATES[metric]
    )
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _with_intervals(
    values: pd.Series,
    y: np.ndarray,
    s: np.ndarray,
    codes: np.ndarray,
    threshold: float,
    min_size: int,
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    several = codes.max() > 0
    sums = bootstrap_sums(_outcomes(y, s, threshold), codes, resamples, rng) if several else None
    result = {}
    for name in GROUP_METRICS:
        reason = _lacking(name, y, min_size)
        found: dict[str, Any] = {"value": None, "low": None, "high": None, "reason": reason}
        if reason is None:
            found["value"] = float(values[name])
            if not several:
                found["reason"] = "all clips come from one source: no interval can be given"
            elif name == "roc_auc":
                drawn = bootstrap_auc(y, [s], codes, resamples, int(rng.integers(2**31)))[0][0]
            else:
                drawn = _quotient(sums, name)
            if several:
                found["low"], found["high"] = (float(q) for q in np.nanpercentile(drawn, [2.5, 97.5]))
        result[name] = found
    return result


def _row(values: tuple) -> Any:
    return values if len(values) > 1 else values[0]


def _plain(values: pd.Series) -> dict[str, float | None]:
    return {str(name): None if pd.isna(value) else float(value) for name, value in values.items()}


def _gaps(frame: Any) -> dict[str, dict[str, float | None]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a ratio of two zeros is NaN, hence None
        difference, ratio = frame.difference(method="between_groups"), frame.ratio(method="between_groups")
    # A gap needs two groups that are large enough: fairlearn gives 0 for one alone.
    enough = frame.by_group.notna().sum() >= 2
    return {
        "difference": _plain(difference.where(enough)),
        "ratio": _plain(ratio.where(enough)),
    }


def _warnings(entries: list[dict[str, Any]], min_size: int) -> list[str]:
    found = []
    for entry in entries:
        name = ", ".join(f"{column} {value}" for column, value in entry["group"].items())
        if entry["n"] < min_size:
            found.append(f"{name}: only {entry['n']} clips, too small to be judged ({min_size} are needed)")
        elif min(entry["n_fake"], entry["n_real"]) < min_size:
            found.append(
                f"{name}: {entry['n_fake']} fake and {entry['n_real']} genuine clips, {min_size} of each are "
                "needed for every metric"
            )
    return found
