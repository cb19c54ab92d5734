"""Figures of the report as pure functions of arrays, each with a 95 % interval over whole groups.

A figure is a dict: `value`, `low`, `high` (None where it cannot be given), `n` (items), `n_groups`, `reason`
(why there is no value, else None), and `note` (what must be known to read it, else None). A group is a speaker
or a recording: what was made from one is drawn together.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from avdetect.evaluation.bootstrap import WeightedMetrics, bootstrap_sums, draw_groups
from avdetect.evaluation.compare import paired_bootstrap
from avdetect.evaluation.metrics import ECE_BINS, binary_report, check_scores, group_codes
from avdetect.evaluation.plots.style import wilson

RESAMPLES = 1000
SIGNS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}
FEWEST = 5  # items of a class below which the scores themselves say more than any figure
Figure = dict[str, Any]


def no_figure(reason: str, n: int = 0) -> Figure:
    """What stands where nothing could be measured."""
    return {
        "value": None,
        "low": None,
        "high": None,
        "n": n,
        "n_groups": None,
        "reason": reason,
        "note": None,
    }


def share(hits: ArrayLike, groups: ArrayLike, seed: int = 0) -> Figure:
    """Share of items (N,) that are true.

    Percentiles of a bootstrap over groups. Where all items or none are true no resample differs; the interval is
    then Wilson's with the groups as trials, as if items of a group said the same.
    """
    hits = np.asarray(hits, dtype=np.float64)
    if not len(hits):
        return no_figure("there is no such clip")
    codes = group_codes(groups, len(hits))
    n_groups, value = int(codes.max()) + 1, float(hits.mean())
    low = high = note = None
    if value in (0.0, 1.0):
        low, high = (
            min(max(float(edge[0]), 0.0), 1.0) for edge in wilson(np.array([value]), np.array([n_groups]))
        )
        note = f"Wilson interval over {n_groups} groups"
    elif n_groups > 1:
        sums = bootstrap_sums(
            np.column_stack([hits, np.ones(len(hits))]), codes, RESAMPLES, np.random.default_rng(seed)
        )
        low, high = (float(q) for q in np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5]))
    else:
        note = "one group: no interval"
    return {
        "value": value, "low": low, "high": high, "n": len(hits), "n_groups": n_groups, "reason": None,
        "note": note,
    }  # fmt: skip


def ranking(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, metric: str = "roc_auc", seed: int = 0
) -> Figure:
    """`roc_auc` or `eer` of scores of any scale (N,), not finite = not judged and left out (the note counts them).

    Without a value where a class has fewer than `FEWEST` items.
    """
    y, s, g = (np.asarray(values) for values in (labels, scores, groups))
    s = s.astype(np.float64)
    judged = np.isfinite(s)
    lost = int((~judged).sum())
    y, s, g = y[judged], s[judged], g[judged]
    fewest = min((y == 1).sum(), (y == 0).sum())
    if fewest < FEWEST:
        return no_figure(f"fewer than {FEWEST} clips of a class could be judged", len(y))
    report = binary_report(y, rankdata(s) / (len(s) + 1), g, seed=seed, resamples=RESAMPLES)
    notes = [text for text in report["warnings"] if "separated" not in text]
    notes += [f"{lost} could not be judged"] if lost else []
    return {
        **report[metric], "n": len(y), "n_fake": report["n_fake"], "n_real": report["n_real"],
        "n_groups": report["n_groups"], "reason": None, "note": "; ".join(notes) or None,
    }  # fmt: skip


def mean_over_kinds(
    labels: ArrayLike,
    scores: ArrayLike,
    kinds: ArrayLike,
    groups: ArrayLike,
    metric: str = "eer",
    seed: int = 0,
) -> Figure:
    """`ranking` of each kind of fake against all genuine items, averaged over kinds; `kinds` holds it by kind.

    The interval is of the mean, over resamples of whole groups; kinds or classes that a resample lacks are left
    out of its mean.
    """
    y, s = check_scores(labels, scores, both_classes=True)
    names, groups = np.asarray(kinds, dtype=object), np.asarray(groups)
    codes, ranks = group_codes(groups, len(y)), rankdata(s) / (len(s) + 1)
    each, drawn = {}, []
    counts = np.concatenate(
        [part for part, _ in draw_groups(y, codes, RESAMPLES, RESAMPLES, np.random.default_rng(seed))]
    )
    for kind in sorted(set(names[y == 1])):
        of_kind = (y == 0) | (names == kind)
        each[kind] = ranking(y[of_kind], s[of_kind], groups[of_kind], metric, seed)
        weights = counts[:, codes[of_kind]]
        here = weights @ y[of_kind] > 0
        values = np.full(len(weights), np.nan)
        values[here] = WeightedMetrics(y[of_kind], ranks[of_kind], 0.5, ECE_BINS)(weights[here])[metric]
        drawn.append(values)
    measured = [figure["value"] for figure in each.values() if figure["value"] is not None]
    if not measured:
        return no_figure(f"no kind of fake has {FEWEST} clips", len(y)) | {"kinds": each}
    kept = [
        values for values, figure in zip(drawn, each.values(), strict=True) if figure["value"] is not None
    ]
    low, high = np.nanpercentile(np.nanmean(np.stack(kept), axis=0), [2.5, 97.5])
    return {
        "value": float(np.mean(measured)), "low": float(low), "high": float(high), "n": len(y),
        "n_groups": int(codes.max()) + 1, "reason": None, "note": f"mean over {len(measured)} kinds",
        "kinds": each,
    }  # fmt: skip


def calibration_error(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, seed: int = 0) -> Figure:
    """Expected calibration error of P(fake) in 15 bins; the interval has the bias of few clips taken off."""
    y, p, g = (np.asarray(values) for values in (labels, scores, groups))
    judged = np.isfinite(p.astype(np.float64))
    y, p, g = y[judged].astype(int), p[judged].astype(np.float64), g[judged]
    if len(y) == 0 or y.min() == y.max():
        return no_figure("it needs judged clips of both classes", len(y))
    report = binary_report(y, p, g, seed=seed, resamples=RESAMPLES)
    return {**report["ece"], "n": len(y), "n_groups": report["n_groups"], "reason": None, "note": None}


def difference(
    labels: ArrayLike, ours: ArrayLike, other: ArrayLike, groups: ArrayLike, metric: str, seed: int = 0
) -> Figure:
    """Metric of `ours` less that of `other` on the items that both judged, by paired bootstrap over groups.

    `a` and `b` hold the metric of each, `p` the two-sided probability, `better` "a", "b" or None.
    """
    y, a, b, g = (np.asarray(values) for values in (labels, ours, other, groups))
    both = np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64))
    y, a, b, g = y[both].astype(int), a[both], b[both], g[both]
    if min((y == 1).sum(), (y == 0).sum()) < FEWEST:
        return no_figure(f"fewer than {FEWEST} clips of a class were judged by both", len(y))
    found = paired_bootstrap(y, a, b, metric, g, resamples=RESAMPLES, seed=seed)
    return {
        "value": found.difference, "low": found.low, "high": found.high, "n": found.n,
        "n_groups": found.n_groups, "reason": None, "note": found.reason, "a": found.a, "b": found.b,
        "p": found.p, "better": found.better,
    }  # fmt: skip


def met(figure: Figure, goal: tuple[str, float] | None) -> bool | None:
    """Whether the value itself reaches the goal (a sign of `SIGNS`, number); None without a goal or a value."""
    if goal is None or figure["value"] is None:
        return None
    return SIGNS[goal[0]](figure["value"], goal[1])
