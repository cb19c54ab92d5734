"""Explanations as pictures for people: what was judged beside its map, with a colour bar and a sentence."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from avdetect.explain.explanation import Explanation

HEADINGS = {
    "visual": "What in the face speaks for fake",
    "audio": "What in the sound speaks for fake",
    "lipsync": "When lips and sound speak for fake",
}
SHARPEST = 99.5  # percentile of sizes that has the full colour: one bright pixel must not darken all others


def draw(explanation: Explanation, path: Path) -> None:
    """Write a PNG."""
    work = {"visual": _faces, "audio": _sound, "lipsync": _lips}[explanation.modality]
    figure = work(explanation)
    heading = HEADINGS[explanation.modality]
    if explanation.method in ("saliency", "attention"):
        heading = (
            "What the network is sensitive to"
            if explanation.method == "saliency"
            else "Where the network looks"
        )
    figure.suptitle(f"{heading} ({explanation.method}, {explanation.network})", fontsize=12)
    sentence = f"{explanation.meaning[0].upper()}{explanation.meaning[1:]}."
    figure.supxlabel(textwrap.fill(sentence, 100), fontsize=9)
    figure.savefig(path)


def _colours(explanation: Explanation) -> ScalarMappable:
    sizes = np.abs(explanation.values)
    top = max(float(np.percentile(sizes, SHARPEST)), 1e-12)
    if explanation.signed:
        return ScalarMappable(Normalize(-top, top), "RdBu_r")
    return ScalarMappable(Normalize(0.0, top), "inferno")


def _bar(figure: Figure, explanation: Explanation, colours: ScalarMappable, axes: object) -> None:
    bar = figure.colorbar(colours, ax=axes, shrink=0.85, pad=0.02)
    low, high = bar.mappable.get_clim()
    if explanation.signed:
        bar.set_ticks([low, 0.0, high], labels=["for genuine", "neither", "for fake"])
    elif explanation.method in ("saliency", "attention"):
        bar.set_ticks([low, high], labels=["little", "much"])
    else:
        bar.set_ticks([low, high], labels=["nothing", "for fake"])


def _faces(explanation: Explanation) -> Figure:
    count, colours = len(explanation.values), _colours(explanation)
    figure = Figure(figsize=(2.3 * max(count, 2) + 1.2, 5.6), dpi=110, layout="constrained")
    grid = figure.subplots(2, count, squeeze=False)
    for column, values in enumerate(explanation.values):
        crop = explanation.crops[column]
        grey = np.repeat(crop.mean(2, keepdims=True), 3, axis=2) / 255.0
        size = np.clip(np.abs(values) / colours.norm.vmax, 0, 1)[..., None]
        shade = colours.to_rgba(values)[..., :3]
        grid[0][column].imshow(crop)
        grid[0][column].set_title(
            f"{explanation.times_s[column]:.2f} s, logit {explanation.logits[column]:+.1f}", fontsize=9
        )
        grid[1][column].imshow(grey * (1 - 0.75 * size) + shade * 0.75 * size)
        for axes in (grid[0][column], grid[1][column]):
            axes.set_axis_off()
    _bar(figure, explanation, colours, grid[1].tolist())
    return figure


def _sound(explanation: Explanation) -> Figure:
    figure = Figure(figsize=(9.5, 6.0), dpi=110, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    level, bands = explanation.level_db, explanation.bands_hz / 1000.0
    loudest = float(level.max())
    quiet = {"vmin": loudest - 80, "vmax": loudest, "shading": "nearest"}
    shown = top.pcolormesh(explanation.times_s, bands, level, cmap="magma", **quiet)
    figure.colorbar(shown, ax=top, pad=0.02, label="level, dB")
    low, high = explanation.logits.min(), explanation.logits.max()
    top.set_title(f"the sound (logit of its windows {low:+.1f} to {high:+.1f}, fake above 0)", fontsize=9)
    colours = _colours(explanation)
    options = {"cmap": colours.cmap, "norm": colours.norm, "shading": "nearest"}
    bottom.pcolormesh(explanation.times_s, bands, explanation.values, **options)
    bottom.set_title("its map", fontsize=9)
    bottom.set_xlabel("seconds")
    for axes in (top, bottom):
        axes.set_ylabel("kHz")
    _bar(figure, explanation, colours, bottom)
    return figure


def _lips(explanation: Explanation) -> Figure:
    figure = Figure(figsize=(9.5, 3.6), dpi=110, layout="constrained")
    axes: Axes = figure.subplots()
    colours, step = _colours(explanation), float(np.diff(explanation.times_s).mean())
    values = explanation.values
    edges = {"edgecolor": "0.6", "lw": 0.3}
    axes.bar(explanation.times_s, values, width=step, align="edge", color=colours.to_rgba(values), **edges)
    axes.axhline(0.0, color="0.3", lw=0.8)
    axes.set_xlabel("seconds")
    axes.set_ylabel("for fake" if explanation.method != "saliency" else "sensitivity")
    axes.set_title(f"logit of out of sync {float(explanation.logits.mean()):+.1f}", fontsize=9)
    _bar(figure, explanation, colours, axes)
    return figure
