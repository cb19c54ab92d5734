"""Curves over all thresholds: ROC, precision-recall, DET, coverage and risk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from scipy.stats import norm
from sklearn.metrics import precision_recall_curve

from avdetect.evaluation import metrics
from avdetect.evaluation.calibration import Thresholds, band_report
from avdetect.evaluation.plots.style import (
    GREY,
    Curve,
    legend_below,
    legend_text,
    line_styles,
    save,
    square_above_legend,
    unit_square,
)

_DET_TICKS = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99,
)  # fmt: skip


def plot_roc(curves: Mapping[str, Curve], path: str | Path, title: str = "ROC curve") -> Path:
    """Share of fakes found against share of genuine clips called fake; legend: AUC with interval, n."""
    figure, axes = square_above_legend(curves)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="chance")
    for (name, curve), style in zip(curves.items(), line_styles(curves), strict=True):
        fpr, fnr, _ = metrics.error_rates(curve.labels, curve.scores)
        axes.plot(fpr, 1 - fnr, label=legend_text(name, curve, "roc_auc", "AUC", metrics.roc_auc), **style)
    axes.set(xlabel="genuine clips called fake (false positive rate)", ylabel="fakes found (recall)")
    unit_square(axes, title)
    legend_below(figure, curves)
    return save(figure, path)


def plot_precision_recall(
    curves: Mapping[str, Curve], path: str | Path, title: str = "Precision and recall"
) -> Path:
    """Precision against recall of the fakes; legend: average precision with interval, n; dotted: chance."""
    figure, axes = square_above_legend(curves)
    shares = [float(np.mean(curve.labels)) for curve in curves.values()]
    label = f"chance: {shares[0]:.0%} of the clips are fake"
    axes.axhline(shares[0], color=GREY, lw=1, ls=":", label=label)
    for (name, curve), style in zip(curves.items(), line_styles(curves), strict=True):
        y, p = metrics.check_scores(curve.labels, curve.scores, both_classes=True)
        precision, recall, _ = precision_recall_curve(y, p)
        text = legend_text(name, curve, "average_precision", "AP", metrics.average_precision)
        # The last point (recall 0, precision 1) is a convention, not something measured.
        axes.plot(recall[:-1], precision[:-1], drawstyle="steps-post", label=text, **style)
    axes.set(xlabel="fakes found (recall)", ylabel="true fakes among clips called fake (precision)")
    unit_square(axes, title)
    legend_below(figure, curves)
    return save(figure, path)


def plot_det(
    curves: Mapping[str, Curve], path: str | Path, title: str = "Detection error trade-off (DET)"
) -> Path:
    """Both error rates on normal-deviate axes (Martin et al. 1997); legend: equal error rate with interval, n.

    A rate of 0 has no place on such an axis: rates are drawn as at least half a clip of the class.
    """
    figure, axes = square_above_legend(curves)
    low, drawn = 0.5, []
    for curve in curves.values():
        y, _ = metrics.check_scores(curve.labels, curve.scores, both_classes=True)
        fpr, fnr, _ = metrics.error_rates(curve.labels, curve.scores)
        floors = 0.5 / (y == 0).sum(), 0.5 / (y == 1).sum()
        drawn.append([np.clip(rate, f, 1 - f) for rate, f in zip((fpr, fnr), floors, strict=True)])
        low = min(low, *floors)
    span = norm.ppf([max(low / 1.3, 1e-5), 0.8])
    axes.plot(span, span, color=GREY, lw=1, ls=":", label="both rates equal")
    for (name, curve), rates, style in zip(curves.items(), drawn, line_styles(curves), strict=True):
        text = legend_text(name, curve, "eer", "EER", metrics.eer)
        axes.plot(norm.ppf(rates[0]), norm.ppf(rates[1]), label=text, drawstyle="steps-post", **style)
    ticks = [tick for tick in _DET_TICKS if span[0] <= norm.ppf(tick) <= span[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(norm.ppf(ticks)))
        axis.set_major_formatter(FixedFormatter([f"{100 * tick:g} %" for tick in ticks]))
        axis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", rotation=40)
    axes.set(xlim=span, ylim=span, aspect="equal")
    axes.set(xlabel="genuine clips called fake (false alarms)", ylabel="fakes not found (misses)")
    axes.set_title(title, fontsize=12)
    axes.grid(alpha=0.25)
    legend_below(figure, curves)
    return save(figure, path)


def plot_coverage_risk(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    path: str | Path,
    band: tuple[Thresholds, Curve] | None = None,
    title: str = "How wrong, when only the clearest clips are decided",
) -> Path:
    """Error among the decided clips against the share decided; each curve is (coverage (K,), risk (K,)).

    Clips nearest to 0.5 are left undecided first. band: the uncertain band and the score that it belongs to,
    marked as a point: what it decides, and how often that is wrong.
    """
    figure, axes = square_above_legend(curves)
    top = 0.0
    for (name, (coverage, risk)), style in zip(curves.items(), line_styles(curves), strict=True):
        text = f"{name}: error {risk[-1]:.1%} when all are decided"
        axes.plot(coverage, risk, label=text, drawstyle="steps-post", **style)
        top = max(top, float(np.max(risk)))
    if band is not None:
        thresholds, curve = band
        report = band_report(curve.labels, curve.scores, thresholds)
        if report["error_when_decided"] is not None:
            text = f"the bundle's band: {report['decided']:.0%} decided, {report['error_when_decided']:.1%} wrong"
            point = (report["decided"], report["error_when_decided"])
            axes.plot(*point, "D", ms=9, mfc="#F0E442", mec="black", label=text, zorder=5, clip_on=False)
            top = max(top, point[1])
    axes.set(xlim=(0, 1.01), ylim=(0, max(0.05, 1.1 * top)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if top > 0.1 else f"{value:.1%}")
    axes.set(xlabel="clips decided (coverage)", ylabel="wrong among the decided (risk)")
    axes.set_title(title, fontsize=12)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=9.5, frameon=False)
    return save(figure, path)
