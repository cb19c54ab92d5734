"""What an encoder's embeddings look like in two dimensions: PCA and t-SNE, coloured by what is known of the clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation.plots.style import DPI, GENUINE, GREY, save

MIN_POINTS = 8
PROJECTIONS = ("pca", "tsne")


class Mark(NamedTuple):
    """How the points of a group look."""

    edge: str
    marker: str
    face: str


#: 0: genuine clips; 1 to 8: groups, the largest first; 9: what is not known or has no mark of its own
MARKS = (
    Mark(GENUINE, "o", "none"),
    *(
        Mark(colour, marker, colour)
        for colour, marker in zip(
            ("#D55E00", "#E69F00", "#CC79A7", "#009E73", "#000000", "#882255", "#999933", "#56B4E9"),
            ("^", "s", "v", "D", "P", "X", "<", ">"),
            strict=True,
        )
    ),
    Mark(GREY, "*", GREY),
)
REST = len(MARKS) - 1


class Group(NamedTuple):
    """Clips of one colour. mask (N,) bool; mark: index into `MARKS`."""

    name: str
    mask: np.ndarray
    mark: int


class Projection(NamedTuple):
    """points (N, 2), and what is to be said of them."""

    points: np.ndarray
    title: str
    axes: tuple[str, str]


def plot_embeddings(
    embeddings: ArrayLike,
    labels: ArrayLike,
    methods: ArrayLike,
    path: str | Path,
    title: str = "Embeddings",
    seed: int = 0,
) -> Path:
    """Embeddings (N, D), N >= 8, by PCA and by t-SNE; genuine clips are blue circles, each method has its mark.

    labels (N,) of 0 and 1, methods (N,) names of the fakes' methods (missing = unknown). The most frequent
    methods get a colour of their own, the others share one. Dimensions are scaled to unit spread first.
    """
    projections = project(embeddings, PROJECTIONS, seed)
    groups = grouped(np.asarray(labels), pd.Series(methods, dtype=object), "method")
    return plot_projections(list(projections.values()), groups, path, title)


def project(
    embeddings: ArrayLike, names: Sequence[str] = PROJECTIONS, seed: int = 0
) -> dict[str, Projection]:
    """Embeddings (N, D), N >= 8, D >= 2, finite, by the named methods of `PROJECTIONS`. Raises DataError for others."""
    x = np.asarray(embeddings, np.float64)
    if x.ndim != 2 or len(x) < MIN_POINTS or x.shape[1] < 2 or not np.isfinite(x).all():
        raise DataError(f"Embeddings to plot are finite (N, D) with N >= {MIN_POINTS}, found {x.shape}.")
    found = {}
    if "pca" in names:
        points, shares = principal_plane(x)
        axes = f"first component, {shares[0]:.0%}", f"second component, {shares[1]:.0%}"
        found["pca"] = Projection(points, f"PCA: {shares.sum():.0%} of the variance", axes)
    if "tsne" in names:
        points, perplexity = neighbour_map(x, seed)
        title = f"t-SNE, perplexity {perplexity:.0f}: distances between groups mean nothing"
        found["tsne"] = Projection(points, title, ("", ""))
    return found


def plot_projections(
    projections: Sequence[Projection], groups: Sequence[Group], path: str | Path, title: str
) -> Path:
    """One or two projections of the same clips side by side, each group with its mark; DataError for none."""
    if not projections:
        raise DataError("There is no projection to plot: choose of " + ", ".join(PROJECTIONS) + ".")
    count = len(projections[0].points)
    figure = Figure(figsize=(5.5 * len(projections), 5.9), dpi=DPI, layout="constrained")
    figure.suptitle(f"{title}, n = {count}", fontsize=12)
    panels = figure.subplots(1, len(projections), squeeze=False)[0]
    for axes, (points, name, labels) in zip(panels, projections, strict=True):
        for group in groups:
            mark = MARKS[group.mark]
            label = f"{group.name}, n = {group.mask.sum()}" if axes is panels[0] else None
            axes.scatter(
                *points[group.mask].T,
                s=24,
                c=mark.face,
                edgecolors=mark.edge,
                marker=mark.marker,
                lw=1.1,
                alpha=0.8,
                label=label,
            )
        axes.set_title(name, fontsize=10)
        axes.set(xticks=[], yticks=[], xlabel=labels[0], ylabel=labels[1])
    longest = max(len(group.name) for group in groups) + 12  # with mark and count
    columns = min(2 * len(projections), len(groups), max(1, 70 * len(projections) // longest))
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9.5, frameon=False)
    return save(figure, path)


def grouped(labels: np.ndarray, values: pd.Series, column: str) -> list[Group]:
    """Clips by a column of the manifest: labels (N,) of 0, 1 and NaN, values (N,) of `column`, in the same order.

    By "label" genuine clips, fakes, and those of which it is not known; by "method" genuine clips and each method
    of the fakes; by any other column each of its values. Values beyond the eight most frequent share a mark, and so
    do the clips without one. Groups without a clip are left out.
    """
    labels, values = np.asarray(labels, float), values.reset_index(drop=True)
    if column == "label":
        groups = [Group("genuine", labels == 0, 0), Group("fake", labels == 1, 1)]
        return _some([*groups, Group("label not known", np.isnan(labels), REST)])
    values = values.where(
        values.isna() | (column != "method") | (labels != 0)
    )  # genuine clips have no method
    names, known = values.astype(str).to_numpy(), values.notna().to_numpy()
    frequent = pd.Series(names[known], dtype=object).value_counts().index.tolist()
    room = REST - 1
    groups = [Group(name, known & (names == name), k) for k, name in enumerate(frequent[:room], start=1)]
    groups.append(Group(f"{len(frequent) - room} others", known & np.isin(names, frequent[room:]), REST))
    if column != "method":
        return _some([*groups, Group(f"{column} not known", ~known, REST)])
    genuine, fake = Group("genuine", labels == 0, 0), ~known & (labels == 1)
    unknown = Group("label not known", ~known & np.isnan(labels), REST)
    return _some([genuine, *groups, Group("fake, method not known", fake, REST), unknown])


def _some(groups: list[Group]) -> list[Group]:
    return [group for group in groups if group.mask.any()]


def principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components: points (N, 2) and the share of the variance of each (2,)."""
    scaled = _scaled(embeddings)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    points = u[:, :2] * s[:2]
    # The sign of a component is arbitrary: the point that lies furthest out is on the positive side.
    points *= np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    total = float((s**2).sum())
    return points, s[:2] ** 2 / total if total else np.zeros(2)


def neighbour_map(embeddings: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
    """t-SNE (van der Maaten & Hinton 2008) of the first 50 components: points (N, 2) and the perplexity."""
    from sklearn.manifold import TSNE

    scaled = _scaled(embeddings)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    perplexity = min(30.0, (len(scaled) - 1) / 3)
    start = u[:, :2] * s[:2]
    start = start / (start[:, 0].std() or 1.0) * 1e-4  # a random start gives another map every time
    tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed, n_jobs=1)
    return tsne.fit_transform((u[:, :50] * s[:50]).astype(np.float32)), perplexity


def _scaled(embeddings: np.ndarray) -> np.ndarray:
    spread = embeddings.std(axis=0)
    return (embeddings - embeddings.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
