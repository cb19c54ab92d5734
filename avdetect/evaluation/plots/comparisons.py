"""Numbers side by side: per kind of fake, and across test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from avdetect.errors import DataError
from avdetect.evaluation.plots.style import DPI, GREY, line_styles, save

_SHORT = {"roc_auc": "ROC AUC", "eer": "equal error rate", "average_precision": "average precision"}
_NAME_WIDTH = 34  # characters; longer names are cut in the middle


def plot_groups(
    reports: Mapping[str, Mapping[str, Any]],
    path: str | Path,
    title: str = "Each kind of fake against all genuine clips",
    measures: Sequence[str] = ("roc_auc", "eer"),
    score: str = "fused",
) -> Path:
    """Horizontal bars with 95 % intervals, hardest first; reports: name -> `binary_report`.

    Groups that could not be measured (a report with a reason) are named below the bars, without a bar.
    """
    measured = {name: report for name, report in reports.items() if report[measures[0]]["value"] is not None}
    if not measured:
        raise DataError("There is no group to plot: none has both genuine and fake clips.")
    names = sorted(measured, key=lambda name: measured[name][measures[0]]["value"], reverse=True)
    height = 1.5 + 0.34 * len(names)
    figure = Figure(figsize=(4.6 + 2.6 * len(measures), max(2.4, height)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    colour = line_styles({score: 0})[0]["color"]
    for axes, measure in zip(grid, measures, strict=True):
        for row, name in enumerate(names):
            entry = measured[name][measure]
            axes.barh(row, entry["value"], height=0.62, color=colour, alpha=0.35)
            end = entry["value"]
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [row, row], color="black", lw=1.4)
                end = max(end, entry["high"])
            axes.text(end + 0.02, row, f"{entry['value']:.3f}", va="center", fontsize=8.5)
        axes.set(xlim=(0, 1.15), xlabel=_SHORT.get(measure, measure), ylim=(-0.6, len(names) - 0.4))
        axes.set_xticks(np.arange(0, 1.01, 0.25))
        axes.axvline(0.5, color=GREY, lw=1, ls=":")
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    counts = [
        f"{_cut(name)}  ({measured[name]['n_fake']} fake, {measured[name]['n_real']} genuine)"
        for name in names
    ]
    grid[0].set_yticks(range(len(names)), counts, fontsize=9)
    note = f"score: {score}; black: 95 % bootstrap interval; dotted: chance"
    if left_out := [_cut(name) for name in reports if name not in measured]:
        note += f"\nnot measured, one class only: {', '.join(left_out[:8])}" + (" …" if left_out[8:] else "")
    figure.supxlabel(note, fontsize=8.5, color=GREY)
    return save(figure, path)


def plot_matrix(
    matrix: Mapping[str, Mapping[str, Mapping[str, Any]]],
    path: str | Path,
    title: str = "The same detector on every test set",
) -> Path:
    """Heat maps of AUC and EER; matrix: score -> test set -> report with `roc_auc` and `eer`.

    A cell that could not be measured is hatched. Colours run from chance (light) to perfect (dark).
    """
    rows, columns = list(matrix), list(dict.fromkeys(name for row in matrix.values() for name in row))
    if not columns:
        raise DataError("There is nothing to draw a matrix of: evaluate at least one test set.")
    size = (2.6 + 1.5 * len(columns), 2.2 + 1.15 * len(rows))
    figure = Figure(figsize=(2 * size[0], size[1]), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    for axes, measure, worst, best in zip(
        figure.subplots(1, 2), ("roc_auc", "eer"), (0.5, 0.5), (1.0, 0.0), strict=True
    ):
        shade = np.full((len(rows), len(columns)), np.nan)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                entry = matrix[row].get(column, {}).get(measure) or {"value": None}
                if entry["value"] is None:
                    axes.add_patch(_hatched(i, j))
                    axes.text(j, i, "not\nmeasured", ha="center", va="center", fontsize=8, color=GREY)
                    continue
                shade[i, j] = np.clip((entry["value"] - worst) / (best - worst), 0, 1)
                text = f"{entry['value']:.3f}"
                if entry.get("low") is not None:
                    text += f"\n[{entry['low']:.3f},\n{entry['high']:.3f}]"
                text += f"\nn = {matrix[row][column]['n']}"
                axes.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if shade[i, j] > 0.6 else "black",
                )
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
        axes.set_xticks(range(len(columns)), [_cut(name) for name in columns], rotation=20, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(_SHORT[measure], fontsize=10.5)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return save(figure, path)


def _hatched(row: int, column: int):
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor="#f4f4f4", edgecolor="#d0d0d0", hatch="//", lw=0
    )


def _cut(name: str) -> str:
    half = _NAME_WIDTH // 2 - 1
    return name if len(name) <= _NAME_WIDTH else f"{name[:half]}…{name[-half:]}"
