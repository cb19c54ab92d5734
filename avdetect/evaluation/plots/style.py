"""What all plots share: colours, legends, sizes, and how a picture is written.

Only matplotlib's Figure objects are used, no pyplot state and no display. Colours are those of Okabe and Ito,
which colour-blind readers can tell apart; lines differ in style as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import ArrayLike

from avdetect.errors import DataError

DPI = 120
GENUINE, FAKE, GREY = "#0072B2", "#D55E00", "#666666"
STYLES = {
    "fused": ("#000000", "-", 2.4),
    "visual": ("#0072B2", "--", 1.8),
    "audio": ("#009E73", "-.", 1.8),
    "lipsync": ("#CC79A7", (0, (1, 1.2)), 2.2),
}
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#F0E442")


class Curve(NamedTuple):
    """One score to draw: labels (N,), P(fake) (N,), and its `binary_report` where the legend shall have
    intervals.
    """

    labels: ArrayLike
    scores: ArrayLike
    report: Mapping[str, Any] | None = None


def some(curves: Mapping[str, Curve]) -> Mapping[str, Curve]:
    """The curves; DataError where there is none."""
    if not curves:
        raise DataError("There is no curve to plot: give at least one score with labels.")
    return curves


def line_styles(names: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Colour, dash and width per score; a name that is not one of ours gets the next free colour."""
    styles = []
    for index, name in enumerate(names):
        colour, line, width = STYLES.get(name, (OTHER_COLOURS[index % len(OTHER_COLOURS)], "-", 1.8))
        styles.append({"color": colour, "ls": line, "lw": width})
    return styles


def legend_text(name: str, curve: Curve, metric: str, short: str, measure: Callable) -> str:
    """ "fused: AUC 0.912 [0.880, 0.941]  n = 400"; measured here where the curve has no report."""
    n = len(np.asarray(curve.labels))
    if curve.report is None:
        return f"{name}: {short} {measure(curve.labels, curve.scores):.3f}  n = {n}"
    value = curve.report[metric]
    interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{name}: {short} {value['value']:.3f}{interval}  n = {n}"


def figure_columns(
    count: int, title: str, height: float, ratios: tuple[int, ...] = (1,)
) -> tuple[Figure, np.ndarray]:
    """One column of axes per score, so that four of them do not lie on top of one another."""
    width = max(5.4, 3.5 * count)
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(len(ratios), count, squeeze=False, height_ratios=ratios)
    return figure, grid


def square_above_legend(curves: Mapping[str, Curve]) -> tuple[Figure, Axes]:
    height = 6.3 + 0.21 * (len(some(curves)) + 1)  # inches: a square of six and a line of legend per curve
    figure = Figure(figsize=(6.0, height), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def legend_below(figure: Figure, curves: Mapping[str, Curve]) -> None:
    """The legend stands outside, where it cannot hide a curve."""
    brackets = any(curve.report is not None for curve in curves.values())
    title = "[ ] 95 % bootstrap interval" if brackets else None
    figure.legend(loc="outside lower center", fontsize=9.5, title=title, title_fontsize=9, frameon=False)


def unit_square(axes: Axes, title: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(title, fontsize=12)
    axes.grid(alpha=0.25)


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share of n (Wilson 1927)."""
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names of methods and files are shown as they are, dollar signs too
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    # Without the version of matplotlib inside, the same numbers give the same file.
    figure.savefig(path, format="png", metadata={"Software": None})
    return path
