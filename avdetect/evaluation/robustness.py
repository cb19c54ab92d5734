"""How much a detector loses when its test clips are degraded: paired on the same clips, with intervals, and drawn.

The degradations themselves are `transforms.degrade`; `scan.robustness` runs a detector over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation import metrics
from avdetect.evaluation.bootstrap import WeightedMetrics, draw_groups
from avdetect.evaluation.plots.style import DPI, GREY, STYLES, save
from avdetect.evaluation.protocols import SCORES
from avdetect.transforms.degrade import DEGRADATIONS, FACE, Degradation

CLEAN = "clean"
PAIRED = ("roc_auc", "eer")
RESAMPLES = 1000
SAME_OFFSET_MS = 40.0  # one frame of the 25 Hz grid on which offsets are searched
_CHUNK_VALUES = 1_000_000
_MARKERS = {"fused": "o", "visual": "s", "audio": "^", "lipsync": "D"}
_NAMES = {"roc_auc": "ROC AUC", "eer": "Equal error rate"}
_CHANCE = 0.5  # of both


def affected(part: str) -> tuple[str, ...]:
    """Score columns that a degradation of this part (`Degradation.part`) can change."""
    return ("score", "visual", "lipsync") if part == FACE else ("score", "audio", "lipsync")


def paired_report(
    labels: ArrayLike,
    clean: ArrayLike,
    degraded: ArrayLike,
    groups: Iterable[Any],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """AUC and EER of degraded clips, and their change against the same clips when clean.

    labels (N,) 0 or 1; clean and degraded (N,) P(fake) of the same clips; groups (N,) the source of each. Gives
    per metric of `PAIRED` {"clean", "value", "low", "high", "change", "change_low", "change_high"}: 95 % percentile
    intervals over whole sources drawn with replacement, the change from the same draws of both, so that what the
    clips have in common cancels out; None for the bounds where there is one source only. Raises DataError where a
    class is missing.
    """
    y, before = metrics.check_scores(labels, clean, both_classes=True, probabilities=True)
    _, after = metrics.check_scores(labels, degraded, both_classes=True, probabilities=True)
    codes, names = pd.factorize(pd.Series(list(groups), dtype=object))
    if len(codes) != len(y) or (codes < 0).any():
        raise DataError(f"{len(y)} clips but {int((codes >= 0).sum())} sources: give one source per clip.")
    report: dict[str, Any] = {"n": len(y), "n_fake": int(y.sum()), "n_sources": len(names)}
    draws = _draws(y, before, after, codes, resamples, seed) if len(names) > 1 else None
    for name in PAIRED:
        measure = getattr(metrics, name)
        then, now = measure(y, before), measure(y, after)
        entry = {"clean": then, "value": now, "change": now - then}
        bounds = {"low": None, "high": None, "change_low": None, "change_high": None}
        if draws is not None:
            low, high = np.percentile(draws[1][name], [2.5, 97.5])
            change_low, change_high = np.percentile(draws[1][name] - draws[0][name], [2.5, 97.5])
            bounds = {"low": low, "high": high, "change_low": change_low, "change_high": change_high}
        report[name] = {k: None if v is None else float(v) for k, v in (entry | bounds).items()}
    return report


def _draws(
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    codes: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics of both (resamples,), from the same draws of sources."""
    rng = np.random.default_rng(seed)
    kernels = [WeightedMetrics(labels, scores, 0.5, metrics.ECE_BINS) for scores in (before, after)]
    chunk = max(1, _CHUNK_VALUES // len(labels))
    parts: tuple[list, list] = ([], [])
    for counts, _ in draw_groups(labels, codes, resamples, chunk, rng):
        for kernel, kept in zip(kernels, parts, strict=True):
            kept.append(kernel(counts[:, codes]))
    joined = [{name: np.concatenate([part[name] for part in kept]) for name in PAIRED} for kept in parts]
    return joined[0], joined[1]


def robustness_table(
    clips: pd.DataFrame,
    scores: pd.DataFrame,
    thresholds: Mapping[str, Mapping[str, float]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per degradation, strength and score: what was measured, and how much less than on the clean clips.

    clips: `key`, `source`, and per score column (`score`, `visual`, `audio`, `lipsync`) the truth, 0, 1 or NaN.
    scores: `key`, `degradation` ("clean" among them), `strength` (NaN for clean), the score columns P(fake) or NaN,
    `offset_ms`. thresholds: by "fused" and modality, `fake_above`.

    Columns: degradation, strength, unit, score ("fused" or a modality), n (scored both times, with a truth), n_fake,
    n_sources, n_lost (scored when clean alone), the numbers of `paired_report` as roc_auc, roc_auc_low,
    roc_auc_clean, roc_auc_change, …; `genuine_called_fake`, `fakes_found`: shares above the detector's own threshold;
    `offset_kept`: of genuine clips, how many show the clean offset plus the one applied to within 40 ms (lip-sync);
    `reason` where nothing could be measured. Scores that a degradation cannot change have no row.
    """
    clips = clips.set_index("key")
    if CLEAN not in set(scores["degradation"]):
        raise DataError("the scores of the clean clips are missing: there is nothing to compare with")
    by_condition = {
        (name, None if pd.isna(strength) else float(strength)): rows.set_index("key").reindex(clips.index)
        for (name, strength), rows in scores.groupby(["degradation", "strength"], sort=False, dropna=False)
    }
    clean = by_condition[CLEAN, None]
    rows = []
    for (name, strength), now in by_condition.items():
        entry = DEGRADATIONS.get(name)
        for column in SCORES if entry is None else affected(entry.part):
            if column not in scores or clean[column].isna().all():
                continue
            row = {"degradation": name, "strength": strength, "unit": entry.unit if entry else None}
            row |= {"score": SCORES[column]}
            row |= _measured(clips, column, clean, now, resamples, seed)
            row |= _at_threshold(clips[column], now[column], thresholds[SCORES[column]]["fake_above"])
            if column == "lipsync":
                shift = strength if name == "offset" else 0.0
                row["offset_kept"] = _offset_kept(clips[column], clean, now, shift)
            rows.append(row)
    return pd.DataFrame(rows)


def _measured(
    clips: pd.DataFrame, column: str, clean: pd.DataFrame, now: pd.DataFrame, resamples: int, seed: int
) -> dict[str, Any]:
    truth = clips[column].to_numpy(float)
    known = np.isfinite(truth) & clean[column].notna().to_numpy(bool)
    both = known & now[column].notna().to_numpy(bool)
    told: dict[str, Any] = {"n_lost": int((known & ~both).sum()), "reason": None}
    labels = truth[both].astype(int)
    if labels.sum() in (0, len(labels)):
        lacking = "fake" if len(labels) and not labels.sum() else "genuine" if len(labels) else "scored"
        return told | {"n": len(labels), "n_fake": int(labels.sum()), "reason": f"there is no {lacking} clip"}
    values = [frame[column].to_numpy(float)[both] for frame in (clean, now)]
    report = paired_report(labels, *values, clips["source"].to_numpy()[both], resamples, seed)
    told |= {name: report[name] for name in ("n", "n_fake", "n_sources")}
    for name in PAIRED:
        told |= {name if k == "value" else f"{name}_{k}": v for k, v in report[name].items()}
    return told


def _at_threshold(truth: pd.Series, scores: pd.Series, fake_above: float) -> dict[str, float]:
    called = (scores > fake_above)[scores.notna()]
    shares = {}
    for name, value in (("genuine_called_fake", 0), ("fakes_found", 1)):
        part = called[truth.eq(value).reindex(called.index)]
        shares[name] = float(part.mean()) if len(part) else np.nan
    return shares


def _offset_kept(truth: pd.Series, clean: pd.DataFrame, now: pd.DataFrame, shift_ms: float) -> float:
    genuine = truth.eq(0) & clean["offset_ms"].notna() & now["offset_ms"].notna()
    if not genuine.any():
        return np.nan
    gap = (now["offset_ms"] - clean["offset_ms"] - shift_ms)[genuine].abs()
    return float((gap <= SAME_OFFSET_MS + 1e-6).mean())


def plot_robustness(table: pd.DataFrame, metric: str, path: str | Path) -> Path:
    """One panel per degradation: `metric` ("roc_auc" or "eer") of every score against strength, with its intervals.

    Strengths stand at equal distances in their order, the clean clips first (or in the middle, for degradations
    with two sides). Raises DataError where nothing could be measured.
    """
    measured = table[table[metric].notna()] if metric in table else table.iloc[:0]
    names = [name for name in dict.fromkeys(measured["degradation"]) if name != CLEAN]
    if not names:
        raise DataError("nothing could be measured under any degradation: there is no curve to draw")
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(max(6.5, 4.3 * columns), 3.3 * lines + 0.7), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    handles: dict[str, Any] = {}
    for place, axes in enumerate(grid.ravel()):
        if place >= len(names):
            axes.set_visible(False)
            continue
        handles |= _panel(axes, DEGRADATIONS[names[place]], measured, metric)
        axes.set_ylim(*_limits(measured, metric))
        if place % columns == 0:
            axes.set_ylabel(_NAMES[metric])
    figure.suptitle(f"{_NAMES[metric]} under degradation, with 95 % intervals over sources", fontsize=12)
    handles["chance"] = grid[0, 0].axhline(_CHANCE, color=GREY, lw=1, ls=(0, (1, 2)))
    clips = measured[measured["degradation"] == CLEAN].set_index("score")["n"]
    labels = [f"{name}, n = {clips[name]:.0f}" if name in clips else name for name in handles]
    figure.legend(handles.values(), labels, loc="outside lower center", ncols=len(handles), frameon=False)
    return save(figure, path)


def _limits(measured: pd.DataFrame, metric: str) -> tuple[float, float]:
    """The same for all panels: from chance to perfect, and as far beyond chance as an interval reaches."""
    values = measured[[metric, f"{metric}_low", f"{metric}_high"]].astype(float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (min(low, 0.5) - 0.04, 1.03) if metric == "roc_auc" else (-0.03, max(high, 0.5) + 0.04)


def _panel(axes: Axes, entry: Degradation, measured: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Draw one degradation; returns legend handles by score."""
    rows, clean = (measured[measured["degradation"] == name] for name in (entry.name, CLEAN))
    order = {strength: place for place, strength in enumerate(entry.strengths)}
    strengths = sorted(rows["strength"].unique(), key=lambda s: (order.get(s, len(order)), s))
    ticks: list[float | None] = [None, *strengths]
    if entry.clean is not None:
        strengths.sort()
        ticks = [*(s for s in strengths if s < entry.clean), None, *(s for s in strengths if s > entry.clean)]
    axes.axhline(_CHANCE, color=GREY, lw=1, ls=(0, (1, 2)))
    handles: dict[str, Any] = {CLEAN: axes.axvline(ticks.index(None), color="#E4E4E4", lw=7, zorder=0)}
    names = [name for name in _MARKERS if name in set(rows["score"]) and name in set(clean["score"])]
    for index, name in enumerate(names):
        own, reference = (
            rows[rows["score"] == name].set_index("strength"),
            clean[clean["score"] == name].iloc[0],
        )
        places = [place for place, s in enumerate(ticks) if s is None or s in own.index]
        shown = pd.DataFrame([reference if ticks[p] is None else own.loc[ticks[p]] for p in places])
        values, lows, highs = (shown[metric + end].to_numpy(float) for end in ("", "_low", "_high"))
        reach = np.nan_to_num(np.stack([values - lows, highs - values]).clip(min=0))
        colour, dash, width = STYLES[name]
        x = np.array(places) + 0.11 * (
            index - (len(names) - 1) / 2
        )  # beside each other, so that none is hidden
        axes.errorbar(x, values, reach, color=colour, ls="none", elinewidth=1, capsize=2)
        handles[name] = axes.plot(x, values, color=colour, marker=_MARKERS[name], ls=dash, lw=width, ms=5)[0]
    axes.set_xticks(range(len(ticks)), [_tick(entry, s) for s in ticks], fontsize=9 if len(ticks) < 9 else 7)
    axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set_title(entry.title, fontsize=11)
    axes.set_xlabel(entry.unit)
    axes.grid(axis="y", alpha=0.3)
    return handles


def _tick(entry: Degradation, strength: float | None) -> str:
    if strength is None:
        return CLEAN if entry.clean is None else f"{entry.clean:g}"
    return f"{strength:g}"
