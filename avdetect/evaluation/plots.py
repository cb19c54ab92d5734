"""Evaluation plots as PNG files, drawn to be read: axes named, n given, intervals in the legend.

Only matplotlib's Figure objects are used, no pyplot state and no display. Colours are those of Okabe and Ito,
which colour-blind readers can tell apart; lines differ in style as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve

from avdetect.errors import DataError
from avdetect.evaluation import metrics
from avdetect.evaluation.calibration import Thresholds, band_report
from avdetect.evaluation.protocols import SCORES

DPI = 120
GENUINE, FAKE, GREY = "#0072B2", "#D55E00", "#666666"
_STYLES = {
    "fused": ("#000000", "-", 2.4),
    "visual": ("#0072B2", "--", 1.8),
    "audio": ("#009E73", "-.", 1.8),
    "lipsync": ("#CC79A7", (0, (1, 1.2)), 2.2),
}
_OTHER_COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#F0E442")


class Curve(NamedTuple):
    """One score to draw: labels (N,), P(fake) (N,), and its `binary_report` where the legend shall have
    intervals.
    """

    labels: ArrayLike
    scores: ArrayLike
    report: Mapping[str, Any] | None = None


def plot_roc(curves: Mapping[str, Curve], path: str | Path, title: str = "ROC curve") -> Path:
    """Share of fakes found against share of genuine clips called fake; legend: AUC with interval, n."""
    figure, axes = _square_above_legend(curves)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="chance")
    for (name, curve), style in zip(curves.items(), _styles(curves), strict=True):
        fpr, fnr, _ = metrics.error_rates(curve.labels, curve.scores)
        axes.plot(fpr, 1 - fnr, label=_legend(name, curve, "roc_auc", "AUC", metrics.roc_auc), **style)
    axes.set(xlabel="genuine clips called fake (false positive rate)", ylabel="fakes found (recall)")
    _unit_square(axes, title)
    _legend_below(figure, curves)
    return _save(figure, path)


def plot_precision_recall(
    curves: Mapping[str, Curve], path: str | Path, title: str = "Precision and recall"
) -> Path:
    """Precision against recall of the fakes; legend: average precision with interval, n; dotted: chance."""
    figure, axes = _square_above_legend(curves)
    shares = [float(np.mean(curve.labels)) for curve in curves.values()]
    label = f"chance: {shares[0]:.0%} of the clips are fake"
    axes.axhline(shares[0], color=GREY, lw=1, ls=":", label=label)
    for (name, curve), style in zip(curves.items(), _styles(curves), strict=True):
        y, p = metrics.check_scores(curve.labels, curve.scores, both_classes=True)
        precision, recall, _ = precision_recall_curve(y, p)
        text = _legend(name, curve, "average_precision", "AP", metrics.average_precision)
        # The last point (recall 0, precision 1) is a convention, not something measured.
        axes.plot(recall[:-1], precision[:-1], drawstyle="steps-post", label=text, **style)
    axes.set(xlabel="fakes found (recall)", ylabel="true fakes among clips called fake (precision)")
    _unit_square(axes, title)
    _legend_below(figure, curves)
    return _save(figure, path)


def plot_calibration(
    curves: Mapping[str, Curve],
    path: str | Path,
    title: str = "Calibration, ECE and bins with 95 % intervals",
) -> Path:
    """Reliability diagram per score: share of fakes against mean P(fake) in each bin, clips per bin below.

    Bars are 95 % Wilson intervals of the share, as if the clips of a bin were independent.
    """
    figure, grid = _columns(curves, title, height=5.0, ratios=(3, 1))
    for column, (name, curve) in enumerate(curves.items()):
        top, bottom = grid[:, column]
        colour = _styles(curves)[column]["color"]
        mean, share, count = metrics.reliability(curve.labels, curve.scores)
        filled = count > 0
        low, high = _wilson(share[filled], count[filled])
        top.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        top.vlines(mean[filled], low, high, color=colour, lw=1.2, alpha=0.6)
        top.plot(mean[filled], share[filled], color=colour, marker="o", ms=5, lw=1.2)
        top.set_title(_legend(name, curve, "ece", "ECE", metrics.ece).replace("  n =", "\nn ="), fontsize=10)
        top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        top.grid(alpha=0.25)
        edges = np.linspace(0, 1, len(count) + 1)
        bottom.bar(edges[:-1], count, np.diff(edges), align="edge", color=colour, alpha=0.75, ec="white")
        bottom.set(xlim=(-0.02, 1.02), xlabel="P(fake)")
        bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    grid[0, 0].set_ylabel("share of fakes")
    grid[1, 0].set_ylabel("clips per bin")
    return _save(figure, path)


def plot_score_histogram(
    curves: Mapping[str, Curve],
    path: str | Path,
    thresholds: Thresholds | None = None,
    title: str = "Scores of genuine clips and fakes",
) -> Path:
    """Histogram of P(fake) per class and score, in per cent of the class; `thresholds` shade the uncertain
    band.

    The band belongs to the fused score and is drawn there only ("fused", or a single curve).
    """
    figure, grid = _columns(curves, title, height=3.6)
    edges = np.linspace(0, 1, 26)
    for column, (name, curve) in enumerate(curves.items()):
        axes = grid[0, column]
        y, p = metrics.check_scores(curve.labels, curve.scores, probabilities=True)
        banded = thresholds is not None and (name == "fused" or len(curves) == 1)
        if banded:
            axes.axvspan(*thresholds, color="#F0E442", alpha=0.35, lw=0, label="uncertain")
        for value, text, colour, hatch in ((0, "genuine", GENUINE, None), (1, "fake", FAKE, "///")):
            part = p[y == value]
            if len(part):
                weights = np.full(len(part), 100 / len(part))
                axes.hist(part, edges, weights=weights, color=colour, alpha=0.45, hatch=hatch, ec=colour,
                          histtype="stepfilled", lw=1.4, label=f"{text}, n = {len(part)}")  # fmt: skip
        axes.set(xlim=(-0.01, 1.01), xlabel="P(fake)")
        axes.set_title(name, fontsize=11)
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
        axes.margins(y=0.28)  # room for the legend above the bars
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
        axes.grid(axis="y", alpha=0.25)
        axes.legend(loc="upper center", fontsize=8.5, framealpha=0.9, ncols=2)
    grid[0, 0].set_ylabel("clips of the class")
    return _save(figure, path)


def plot_confusion(
    labels: ArrayLike,
    scores: ArrayLike,
    path: str | Path,
    threshold: float = 0.5,
    thresholds: Thresholds | None = None,
    title: str = "Confusion matrix",
) -> Path:
    """Counts and per cent of each true class, at one threshold or, with `thresholds`, with the uncertain
    column.
    """
    if thresholds is None:
        c = metrics.confusion(labels, scores, threshold)
        table = np.array([[c["tn"], c["fp"]], [c["fn"], c["tp"]]])
        columns, rule = ["genuine", "fake"], f"fake where P(fake) ≥ {threshold:g}"
    else:
        counts = band_report(labels, scores, thresholds)["counts"]
        columns = ["real", "uncertain", "fake"]
        table = np.array([[counts[kind][v] for v in columns] for kind in ("genuine", "fake")])
        rule = f"real < {thresholds.real_below:.3f} ≤ uncertain ≤ {thresholds.fake_above:.3f} < fake"
    totals = table.sum(axis=1, keepdims=True)
    share = table / np.maximum(totals, 1)
    figure = Figure(figsize=(1.6 + 1.6 * len(columns), 4.3), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if share[row, column] > 0.55 else "black"
        text = f"{count}\n{share[row, column]:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, size=13)
    axes.set_xticks(range(len(columns)), [f"called\n{name}" for name in columns])
    axes.set_yticks((0, 1), [f"genuine\nn = {totals[0, 0]}", f"fake\nn = {totals[1, 0]}"])
    axes.set_title(f"{title}\n{rule}", fontsize=10.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return _save(figure, path)


def plot_evaluation(
    table: pd.DataFrame, result: Mapping[str, Any], out_dir: str | Path, thresholds: Thresholds | None = None
) -> list[Path]:
    """All plots of an `evaluate_scores` result and the table it was made from; returns the files written.

    Scores that could not be measured (their "overall" has a reason) are left out.
    """
    out_dir = Path(out_dir)
    curves = {}
    for column, name in SCORES.items():
        report = result["clips"].get(name, {}).get("overall")
        if report is not None and report["reason"] is None:
            rows = table[table["label"].notna() & table[column].notna()]
            curves[name] = Curve(rows["label"].astype(int).to_numpy(), rows[column].to_numpy(float), report)
    if not curves:
        return []
    paths = [
        plot_roc(curves, out_dir / "roc.png"),
        plot_precision_recall(curves, out_dir / "precision_recall.png"),
        plot_calibration(curves, out_dir / "calibration.png"),
        plot_score_histogram(curves, out_dir / "score_histogram.png", thresholds),
    ]
    if "fused" in curves:
        y, p, report = curves["fused"]
        paths.append(plot_confusion(y, p, out_dir / "confusion_matrix.png", report["threshold"]))
        if thresholds is not None:
            paths.append(
                plot_confusion(y, p, out_dir / "verdicts.png", thresholds=thresholds, title="Verdicts")
            )
    return paths


def _some(curves: Mapping[str, Curve]) -> Mapping[str, Curve]:
    if not curves:
        raise DataError("There is no curve to plot: give at least one score with labels.")
    return curves


def _styles(curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    styles = []
    for index, name in enumerate(curves):
        colour, line, width = _STYLES.get(name, (_OTHER_COLOURS[index % len(_OTHER_COLOURS)], "-", 1.8))
        styles.append({"color": colour, "ls": line, "lw": width})
    return styles


def _legend(name: str, curve: Curve, metric: str, short: str, measure: Any) -> str:
    n = len(np.asarray(curve.labels))
    if curve.report is None:
        return f"{name}: {short} {measure(curve.labels, curve.scores):.3f}  n = {n}"
    value = curve.report[metric]
    interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{name}: {short} {value['value']:.3f}{interval}  n = {n}"


def _columns(
    curves: Mapping[str, Curve], title: str, height: float, ratios: tuple[int, ...] = (1,)
) -> tuple[Figure, np.ndarray]:
    """One column of axes per curve, so that four scores do not lie on top of one another."""
    width = max(5.4, 3.5 * len(_some(curves)))
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(len(ratios), len(curves), squeeze=False, height_ratios=ratios)
    return figure, grid


def _square_above_legend(curves: Mapping[str, Curve]) -> tuple[Figure, Axes]:
    height = 6.3 + 0.21 * (len(_some(curves)) + 1)  # inches: a square of six and a line of legend per curve
    figure = Figure(figsize=(6.0, height), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def _legend_below(figure: Figure, curves: Mapping[str, Curve]) -> None:
    """The legend stands outside, where it cannot hide a curve."""
    brackets = any(curve.report is not None for curve in curves.values())
    title = "[ ] 95 % bootstrap interval" if brackets else None
    figure.legend(loc="outside lower center", fontsize=9.5, title=title, title_fontsize=9, frameon=False)


def _unit_square(axes: Axes, title: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(title, fontsize=12)
    axes.grid(alpha=0.25)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share of n (Wilson 1927)."""
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    figure.savefig(path, format="png")
    return path
