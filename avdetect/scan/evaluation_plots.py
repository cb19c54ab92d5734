"""All pictures of an evaluation, by test set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import numpy as np
import pandas as pd
import torch

from avdetect.encoders.audio.logmel import LogMel
from avdetect.errors import MediaError
from avdetect.evaluation import Thresholds, plot_evaluation
from avdetect.evaluation.plots import (
    Sound,
    plot_embeddings,
    plot_learning_curves,
    plot_matrix,
    plot_spectrograms,
)
from avdetect.evaluation.plots.embeddings import MIN_POINTS
from avdetect.media.audio import read_audio

if TYPE_CHECKING:
    from avdetect.scan.evaluate import Measured

RATE = 16000
SOUNDS_SHOWN = 3  # of each kind
SHOWN_S = 10.0  # of each sound
WRONG_SHOWN = 10
MEL = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80, "fmin": 20.0, "fmax": 8000.0}


def draw_all(
    measured: Sequence[Measured],
    report: dict[str, Any],
    folder: Path,
    thresholds: Thresholds | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, list[Path]]:
    """Draw everything below `folder`; files by test set, and those of all of them under ""."""
    general = []
    if len(measured) > 1:
        general.append(plot_matrix(report["matrix"], folder / "matrix.png"))
    if rows := _history(report["bundle"]):
        general.append(plot_learning_curves(rows, folder / "learning_curves.png", "Training of the detector"))
    pictures = {"": general}
    for one in measured:
        own = folder / one.set.slug
        pictures[one.set.name] = [
            *plot_evaluation(one.table, one.result, own, thresholds),
            *_embeddings(one, own, seed),
            *_spectrograms(one, own, say),
        ]
    return pictures


def worst(table: pd.DataFrame, column: str = "score", label: str = "label") -> dict[str, pd.DataFrame]:
    """Clips on the right and the wrong side of 0.5, the clearest first: four kinds, by their name."""
    known = table[table[label].notna() & table[column].notna()]
    fake, above = known[label] == 1, known[column] >= 0.5
    kinds = (
        ("fakes found", fake & above, False),
        ("fakes missed", fake & ~above, True),
        ("genuine called fake", ~fake & above, False),
        ("genuine recognised", ~fake & ~above, True),
    )
    return {
        name: known[mask].sort_values([column, "key"], ascending=[rising, True]).head(WRONG_SHOWN)
        for name, mask, rising in kinds
    }


def _history(bundle: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Epochs of the run that the bundle lies in, if it lies in one."""
    path = Path(bundle["folder"]).absolute().parent / "history.jsonl" if bundle else None
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _embeddings(one: Measured, folder: Path, seed: int) -> list[Path]:
    told = one.table.set_index("key")
    paths = []
    for name, embeddings in one.embeddings.items():
        rows = told.loc[embeddings.index]
        known = rows["label"].notna().to_numpy()
        if known.sum() < MIN_POINTS:
            continue
        points, rows = embeddings.to_numpy(float)[known], rows[known]
        paths.append(
            plot_embeddings(
                points, rows["label"].to_numpy(int), rows["method"], folder / f"embeddings_{name}.png",
                f"Embeddings of the {name} encoder", seed,
            )
        )  # fmt: skip
    return paths


def _spectrograms(one: Measured, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Voices that were judged most clearly, rightly and wrongly; by their own label where it is known."""
    table = one.table
    if "audio" not in table or not one.result["calibrated"]:
        return []
    label = "audio_label" if table["audio_label"].notna().any() else "label"
    files = one.set.manifest.table.assign(key=one.set.manifest.keys).set_index("key")
    rows: dict[str, list[Sound]] = {}
    for kind, clips in worst(table, "audio", label).items():
        rows[kind] = []
        for row in clips.head(SOUNDS_SHOWN).itertuples():
            try:
                sound = read_audio(one.set.manifest.file_of(files.loc[row.key]), RATE)
            except MediaError as error:  # prepared clips outlive their files
                say(f"no spectrogram: {error}")
                continue
            method = "" if pd.isna(row.method) else f", clip: {row.method}"
            title = f"{Path(row.key).name}\nvoice score {row.audio:.3f}{method}"
            rows[kind].append(_sound(title, sound))
    if not any(rows.values()):
        return []
    return [plot_spectrograms(rows, folder / "spectrograms.png")]


def _sound(title: str, waveform: np.ndarray) -> Sound:
    shown = np.array(waveform[: round(SHOWN_S * RATE)], np.float32)
    shown = np.pad(shown, (0, max(0, MEL["n_fft"] - len(shown))))  # a window at least
    with torch.inference_mode():
        natural = LogMel(RATE, **MEL)(torch.from_numpy(shown)[None])[0].numpy()
    edges = librosa.mel_frequencies(MEL["n_mels"] + 2, fmin=MEL["fmin"], fmax=MEL["fmax"])
    return Sound(title, natural * (10.0 / np.log(10.0)), MEL["hop_length"] / RATE, edges[1:-1])
