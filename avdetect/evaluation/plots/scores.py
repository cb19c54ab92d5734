"""Pictures of scores themselves: calibration, histograms, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from avdetect.evaluation import metrics
from avdetect.evaluation.calibration import Thresholds, band_report
from avdetect.evaluation.plots.style import (
    DPI,
    FAKE,
    GENUINE,
    GREY,
    Curve,
    figure_columns,
    legend_text,
    line_styles,
    save,
    some,
    wilson,
)


def plot_calibration(
    curves: Mapping[str, Curve],
    path: str | Path,
    title: str = "Calibration, ECE and bins with 95 % intervals",
) -> Path:
    """Reliability diagram per score: share of fakes against mean P(fake) in each bin, clips per bin below.

    Bars are 95 % Wilson intervals of the share, as if the clips of a bin were independent.
    """
    figure, grid = figure_columns(len(some(curves)), title, height=5.0, ratios=(3, 1))
    for column, (name, curve) in enumerate(curves.items()):
        top, bottom = grid[:, column]
        colour = line_styles(curves)[column]["color"]
        mean, share, count = metrics.reliability(curve.labels, curve.scores)
        filled = count > 0
        low, high = wilson(share[filled], count[filled])
        top.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        top.vlines(mean[filled], low, high, color=colour, lw=1.2, alpha=0.6)
        top.plot(mean[filled], share[filled], color=colour, marker="o", ms=5, lw=1.2)
        top.set_title(
            legend_text(name, curve, "ece", "ECE", metrics.ece).replace("  n =", "\nn ="), fontsize=10
        )
        top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        top.grid(alpha=0.25)
        edges = np.linspace(0, 1, len(count) + 1)
        bottom.bar(edges[:-1], count, np.diff(edges), align="edge", color=colour, alpha=0.75, ec="white")
        bottom.set(xlim=(-0.02, 1.02), xlabel="P(fake)")
        bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    grid[0, 0].set_ylabel("share of fakes")
    grid[1, 0].set_ylabel("clips per bin")
    return save(figure, path)


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
    figure, grid = figure_columns(len(some(curves)), title, height=3.6)
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
    return save(figure, path)


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
    return save(figure, path)


def plot_recalibration(
    stages: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    path: str | Path,
    title: str = "Calibration on these clips, before and after",
) -> Path:
    """Reliability per score before calibration (sigmoid of the raw logit) and after; legend: ECE.

    stages: name -> (labels (N,), P(fake) before (N,), P(fake) after (N,)). A point's area grows with the clips
    in its bin.
    """
    figure, grid = figure_columns(len(stages), title, height=4.4)
    for axes, (name, (labels, before, after)) in zip(grid[0], stages.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
        kinds = (
            ("before", before, GREY, "o", "--"),
            ("after", after, line_styles({name: 0})[0]["color"], "s", "-"),
        )
        for text, scores, colour, marker, line in kinds:
            mean, share, count = metrics.reliability(labels, scores)
            filled = count > 0
            areas = 15 + 120 * count[filled] / count.sum()
            label = f"{text}: ECE {metrics.ece(labels, scores):.3f}"
            axes.plot(mean[filled], share[filled], color=colour, ls=line, lw=1.2, alpha=0.8)
            axes.scatter(
                mean[filled], share[filled], areas, color=colour, marker=marker, label=label, alpha=0.8
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="P(fake)")
        axes.set_title(f"{name}\nn = {len(np.asarray(labels))}", fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=9, frameon=False)
    grid[0, 0].set_ylabel("share of fakes")
    return save(figure, path)
