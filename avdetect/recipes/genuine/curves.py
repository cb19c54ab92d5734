"""Learning curves over runs: the best validation figure against model size and amount of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from avdetect.errors import DataError
from avdetect.evaluation.plots.style import DPI, OTHER_COLOURS, save
from avdetect.training.history import History

METRIC = "val/auc"


def read_run(folder: Path, stage: str) -> dict[str, Any]:
    """Name, parameters, genuine and fake training clips, and epochs of one stage of a run folder.

    Parameters are None while the stage is not finished. Raises DataError where the run has no epoch of the stage.
    """
    rows = [
        row for row in History(folder / "history.jsonl").rows() if row["stage"] == stage and METRIC in row
    ]
    if not rows:
        raise DataError(f"{folder} has no epoch of {stage} with {METRIC}: name run folders that trained it")
    marker, manifest = folder / "stages" / f"{stage}.json", folder / "manifest.csv"
    done = json.loads(marker.read_text()) if marker.is_file() else {}
    best = max(rows, key=lambda row: row[METRIC])
    return {
        "run": folder.name,
        "parameters": done.get("parameters"),
        "train_clips": _train_clips(manifest, stage) if manifest.is_file() else None,
        "epochs": [{"epoch": row["epoch"], "value": row[METRIC]} for row in rows],
        "best": best[METRIC],
        "best_epoch": best["epoch"],
    }


def _train_clips(manifest: Path, stage: str) -> int:
    """Rows of the train split that the stage can learn from, as far as their kind tells."""
    table = pd.read_csv(manifest, usecols=["kind", "split"])
    without = {"visual": "audio", "audio": "image", "lipsync": "image"}[stage]
    return int((table["split"].eq("train") & table["kind"].ne(without)).sum())


def plot_runs(runs: Sequence[dict[str, Any]], path: Path, title: str) -> Path:
    """Three panels: validation AUC by epoch of each run, its best by parameters, and by training clips."""
    figure = Figure(figsize=(12.0, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    by_epoch, by_size, by_data = figure.subplots(1, 3)
    for place, run in enumerate(runs):
        colour, mark = ("#000000", "#0072B2", *OTHER_COLOURS)[place % 6], "os^vD*"[place % 6]
        epochs = [row["epoch"] for row in run["epochs"]]
        values = [row["value"] for row in run["epochs"]]
        by_epoch.plot(epochs, values, color=colour, marker=mark, ms=3, label=run["run"])
        for axes, key in ((by_size, "parameters"), (by_data, "train_clips")):
            if run[key] is not None:
                axes.plot(run[key], run["best"], color=colour, marker=mark, ls="none", label=run["run"])
    for axes, label in ((by_epoch, "epoch"), (by_size, "parameters"), (by_data, "training clips")):
        axes.set(xlabel=label)
        axes.grid(alpha=0.25)
    by_epoch.set_ylabel("validation AUC")
    by_epoch.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    by_epoch.legend(fontsize=8.5)
    return save(figure, path)
