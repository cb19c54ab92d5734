"""From the evidence of a split and a finished detector to scores, metrics and plots on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avdetect.evaluation import Thresholds, evaluate_scores, plot_evaluation
from avdetect.inference.bundle import Bundle
from avdetect.inference.scoring import calibrated_scores, fused_logits, screened
from avdetect.recipes.evidence_store import EvidenceStore

TOLD = ("key", "label", "visual_label", "audio_label", "method", "source", "dataset", "kind")
TOLD_WHERE_KNOWN = (
    "subject", "quality", "fake_periods", "gender", "age", "skin_tone", "race", "utterance", "made_of", "made_by",
    "sync_label",
)  # fmt: skip


def score_split(store: EvidenceStore, bundle: Bundle, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clip scores and frame logits of a split; unscored clips stay, with their reason.

    Clips: what the manifest tells of them, `score` and one column a modality = P(fake), each with its logit
    (`NAME_logit`), and `NAME_reason`. Frames: `key`, `modality`, `logit`.
    """
    rows = [screened(bundle, row).evidence for row in store.rows(split)]
    logits = fused_logits(bundle.fusion, rows)
    whole = store.table(split)
    known = [name for name in TOLD_WHERE_KNOWN if name in whole and whole[name].notna().any()]
    table = whole[[*TOLD, *known]].reset_index(drop=True)
    scores = _scores(bundle, logits)
    for name, column in (("fused", "score"), *((m, m) for m in bundle.encoders)):
        table[column] = [score[name] for score in scores]
        table[f"{column}_logit"] = logits[name]
    for name in bundle.encoders:
        table[f"{name}_reason"] = [row.reasons.get(name) for row in rows]
    frames = [
        {"key": key, "modality": modality, "logit": float(logit)}
        for key, row in zip(table["key"], rows, strict=True)
        for modality, logit in row.frame_logits()
    ]
    return table, pd.DataFrame(frames, columns=["key", "modality", "logit"])


def verdict_scores(bundle: Bundle, logits: dict[str, np.ndarray]) -> np.ndarray:
    """P(fake) (N,) of clips as their verdicts have it; NaN where nothing was judged."""
    return np.array([score["fused"] for score in _scores(bundle, logits)], dtype=float)


def fused_pairs(truth: np.ndarray, logits: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and fused logit of the clips that the fused calibration is for: several modalities were judged.

    Of all clips where these do not hold both classes (the score of a clip with one modality is that one's own).
    """
    judged = sum(np.isfinite(values).astype(int) for name, values in logits.items() if name != "fused")
    several = judged > 1
    if {0.0, 1.0} <= set(truth[several]):
        return truth[several], logits["fused"][several]
    return truth, logits["fused"]


def known(truth: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of which both are known: truth (N,) as integers, values (N,)."""
    usable = np.isfinite(truth) & np.isfinite(values)
    return truth[usable].astype(int), values[usable]


def _scores(bundle: Bundle, logits: dict[str, np.ndarray]) -> list[dict[str, float | None]]:
    """Calibrated scores by name of each clip."""
    count = len(logits["fused"])
    return [
        calibrated_scores(bundle, {name: float(values[row]) for name, values in logits.items()})
        for row in range(count)
    ]


def write_scores(
    table: pd.DataFrame, frames: pd.DataFrame | None, folder: Path, thresholds: Thresholds, seed: int
) -> dict[str, Any]:
    """Write `scores.parquet`, `metrics.json` and `plots/` into a folder and return the metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".scores.parquet.part"
    table.to_parquet(part)
    os.replace(part, folder / "scores.parquet")
    result = evaluate_scores(table, folder, frames, thresholds=thresholds, seed=seed)
    plot_evaluation(table, result, folder / "plots", thresholds)
    return result
