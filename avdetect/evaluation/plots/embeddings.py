"""What an encoder's embeddings look like in two dimensions: PCA and t-SNE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation.plots.style import DPI, GENUINE, GREY, save

MIN_POINTS = 8
_FAKE_COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#009E73", "#000000", "#882255", "#999933", "#56B4E9")
_FAKE_MARKERS = ("^", "s", "v", "D", "P", "X", "<", ">")


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
    x = np.asarray(embeddings, np.float64)
    if x.ndim != 2 or len(x) < MIN_POINTS or not np.isfinite(x).all():
        raise DataError(f"Embeddings to plot are finite (N, D) with N >= {MIN_POINTS}, found {x.shape}.")
    groups = _groups(np.asarray(labels), pd.Series(methods, dtype=object))
    figure = Figure(figsize=(11, 5.9), dpi=DPI, layout="constrained")
    figure.suptitle(f"{title}, n = {len(x)}", fontsize=12)
    (plane, shares), (map_, perplexity) = principal_plane(x), neighbour_map(x, seed)
    left, right = figure.subplots(1, 2)
    for axes, points, name in (
        (left, plane, f"PCA: {shares.sum():.0%} of the variance"),
        (right, map_, f"t-SNE, perplexity {perplexity:.0f}: distances between groups mean nothing"),
    ):
        for group, (mask, colour, marker, face) in groups.items():
            label = f"{group}, n = {mask.sum()}" if axes is left else None
            axes.scatter(
                *points[mask].T,
                s=24,
                c=face,
                edgecolors=colour,
                marker=marker,
                lw=1.1,
                alpha=0.8,
                label=label,
            )
        axes.set_title(name, fontsize=10)
        axes.set(xticks=[], yticks=[])
    left.set(xlabel=f"first component, {shares[0]:.0%}", ylabel=f"second component, {shares[1]:.0%}")
    figure.legend(loc="outside lower center", ncols=min(4, len(groups)), fontsize=9.5, frameon=False)
    return save(figure, path)


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


def _groups(labels: np.ndarray, methods: pd.Series) -> dict[str, tuple[np.ndarray, str, str, str]]:
    """Name -> (mask, edge colour, marker, face colour), genuine clips first."""
    groups = {"genuine": (labels == 0, GENUINE, "o", "none")}
    fakes = methods.where(methods.notna(), "fake, method not known").astype(str).to_numpy()
    frequent = pd.Series(fakes[labels == 1]).value_counts().index.tolist()
    room = len(_FAKE_COLOURS)
    for name, colour, marker in zip(frequent[:room], _FAKE_COLOURS, _FAKE_MARKERS, strict=False):
        groups[name] = ((labels == 1) & (fakes == name), colour, marker, colour)
    if rest := frequent[room:]:
        groups[f"{len(rest)} other methods"] = ((labels == 1) & np.isin(fakes, rest), GREY, "*", GREY)
    return {name: group for name, group in groups.items() if group[0].any()}
