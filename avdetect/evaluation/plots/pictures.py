"""Spectrograms of clips that were judged rightly and wrongly, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from avdetect.errors import DataError
from avdetect.evaluation.plots.style import DPI, FAKE, GENUINE, OTHER_COLOURS, save

MEL_RANGE_DB = 80.0
_MEL_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000)


class Sound(NamedTuple):
    """One recording to show. mel: (bands, frames) dB, band 0 lowest; centres_hz: (bands,) rising; hop_s:
    seconds per frame.
    """

    title: str
    mel: np.ndarray
    hop_s: float
    centres_hz: np.ndarray


def plot_spectrograms(
    rows: dict[str, Sequence[Sound]],
    path: str | Path,
    title: str = "Mel-spectrograms of hits and misses, dB below the loudest point",
) -> Path:
    """Rows of mel-spectrograms, each row under its own heading ("fakes found", "fakes missed" …)."""
    rows = {name: sounds for name, sounds in rows.items() if sounds}
    if not rows:
        raise DataError("There is no sound to draw a spectrogram of.")
    width = max(len(sounds) for sounds in rows.values())
    figure = Figure(figsize=(1.2 + 4.4 * width, 0.6 + 2.35 * len(rows)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(len(rows), width, squeeze=False)
    image = None
    for line, (name, sounds) in zip(grid, rows.items(), strict=True):
        for axes in line[len(sounds) :]:
            axes.set_visible(False)
        for axes, sound in zip(line, sounds, strict=False):
            mel = np.asarray(sound.mel, np.float64)
            image = axes.imshow(
                mel - mel.max(), origin="lower", aspect="auto", cmap="magma", vmin=-MEL_RANGE_DB, vmax=0,
                extent=(0, mel.shape[1] * sound.hop_s, -0.5, len(mel) - 0.5), interpolation="nearest",
            )  # fmt: skip
            ticks = [hz for hz in _MEL_TICKS_HZ if sound.centres_hz[0] <= hz <= sound.centres_hz[-1]]
            places = np.interp(ticks, sound.centres_hz, np.arange(len(mel)))
            axes.set_yticks(places, [f"{hz / 1000:g}" for hz in ticks], fontsize=8)
            axes.tick_params(axis="x", labelsize=8)
            axes.set_title(sound.title, fontsize=8.5)
        line[0].set_ylabel(f"{name}\nkHz", fontsize=9.5)
    for axes in grid[-1]:
        axes.set_xlabel("seconds", fontsize=9)
    figure.colorbar(image, ax=grid, shrink=0.6, label="dB")
    return save(figure, path)


def plot_learning_curves(rows: Sequence[dict[str, Any]], path: str | Path, title: str = "Training") -> Path:
    """Loss and validation figures over epochs, one column a stage; rows as in a run's `history.jsonl`.

    The dotted line marks the epoch with the lowest validation loss. Only train and validation are ever here.
    """
    table = pd.DataFrame(rows)
    if table.empty or not {"stage", "epoch"} <= set(table):
        raise DataError(
            "The history holds no epoch with a stage: train first, or leave the learning curves out."
        )
    stages = list(dict.fromkeys(table["stage"]))
    figure = Figure(figsize=(max(5.4, 3.6 * len(stages)), 5.6), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    grid = figure.subplots(2, len(stages), squeeze=False, sharex="col")
    for (top, bottom), stage in zip(grid.T, stages, strict=True):
        part = table[table["stage"] == stage].sort_values("epoch").dropna(axis=1, how="all")
        epochs = part["epoch"].to_numpy()
        for name, colour, line, mark in (("train/loss", GENUINE, "-", "o"), ("val/loss", FAKE, "--", "s")):
            if name in part:
                top.plot(
                    epochs, part[name], color=colour, ls=line, marker=mark, ms=3.5, label=name.split("/")[0]
                )
        measured = [name for name in part if str(name).startswith("val/") and name != "val/loss"]
        for index, name in enumerate(measured):
            colour = ("#000000", *OTHER_COLOURS)[index % 5]
            bottom.plot(epochs, part[name], color=colour, marker="os^vD"[index % 5], ms=3.5, label=name[4:])
        if "val/loss" in part and part["val/loss"].notna().any():
            best = float(part.loc[part["val/loss"].idxmin(), "epoch"])
            for axes in (top, bottom):
                axes.axvline(best, color="#666666", lw=1, ls=":")
        top.set_title(str(stage), fontsize=11)
        top.legend(fontsize=8.5)
        if measured:
            bottom.legend(fontsize=8.5)
        bottom.set(xlabel="epoch")
        bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for axes in (top, bottom):
            axes.grid(alpha=0.25)
    grid[0, 0].set_ylabel("loss")
    grid[1, 0].set_ylabel("validation")
    return save(figure, path)
