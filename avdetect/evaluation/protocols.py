"""From a table of scored clips to the metrics of a run.

Unscored clips are counted with their reasons and left out; no score is ever invented for them.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from avdetect.errors import DataError
from avdetect.evaluation.calibration import Thresholds, band_report
from avdetect.evaluation.metrics import aggregate_mean_logit, binary_report, empty_report

#: column of the score table -> name in metrics and plots
SCORES = {"score": "fused", "visual": "visual", "audio": "audio", "lipsync": "lipsync"}
#: column with the truth of one modality alone
OWN_LABELS = {"visual": "visual_label", "audio": "audio_label"}


def evaluate_scores(
    table: pd.DataFrame,
    out_dir: str | Path,
    frames: pd.DataFrame | None = None,
    threshold: float = 0.5,
    thresholds: Thresholds | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure every score column of `table`, write `out_dir`/metrics.json atomically and return the same.

    `table`: one row per clip; `key` (unique), `label` (0, 1 or missing), `source`, `score` = fused P(fake),
    and as far as there: `visual`, `audio`, `lipsync` = P(fake) of a modality, `method` of the fakes,
    `visual_label`, `audio_label`, and `NAME_reason` telling why the column NAME has no value. None or NaN =
    unscored. `frames`: one row per judged frame or window; `key`, `modality`, `logit` (raw, NaN = unscored).
    `threshold`: the P(fake) from which a clip counts as fake in accuracy and the like; `thresholds`: the
    uncertain band of the fused score.

    Result: "clips" -> fused/visual/audio/lipsync -> "overall" (a `binary_report`, all clips), "methods" (each
    kind of fake against all genuine clips), "own_label" (against the modality's own truth, None where
    unknown), "unscored"; "frames" -> modality -> "frame", "clip_mean_logit", "label"; "band"; "warnings".
    What cannot be measured has None for values and a "reason". Raises DataError on tables that break these
    rules.
    """
    table, warnings = _checked(table)
    options = {"threshold": threshold, "seed": seed, "resamples": resamples}
    labelled = table[table["label"].notna()]
    columns = {column: name for column, name in SCORES.items() if column in labelled}
    clips = {name: _evaluate_column(labelled, column, options) for column, name in columns.items()}
    warnings += [f"{name}: {text}" for name, entry in clips.items() for text in entry["overall"]["warnings"]]
    result: dict[str, Any] = {
        "schema": "avdetect.metrics/1",
        "n_clips": len(table),
        "n_fake": int((labelled["label"] == 1).sum()),
        "n_real": int((labelled["label"] == 0).sum()),
        "n_unlabelled": len(table) - len(labelled),
        "n_sources": int(labelled["source"].nunique()),
        "clips": clips,
        "frames": {},
        "band": None,
        "warnings": warnings,
    }
    if frames is not None:
        result["frames"] = _evaluate_frames(labelled, frames, set(table["key"]), options)
    scored = labelled[labelled["score"].notna()]
    if thresholds is not None and len(scored):
        result["band"] = band_report(scored["label"], scored["score"], thresholds)
    write_json(result, Path(out_dir) / "metrics.json")
    return result


def summary_table(result: dict[str, Any]) -> pd.DataFrame:
    """One row per score and kind of fake of an `evaluate_scores` result, to be printed at the end of a run.

    Columns: score, fakes ("all" or a method), n, n_fake, roc_auc, low, high, average_precision, eer,
    log_loss, accuracy; rates in [0, 1], NaN where undefined.
    """
    rows = []
    for name, entry in result["clips"].items():
        for fakes, report in {"all": entry["overall"], **entry["methods"]}.items():
            auc = report["roc_auc"]
            row = {"score": name, "fakes": fakes, "n": report["n"], "n_fake": report["n_fake"],
                   "roc_auc": auc["value"], "low": auc["low"], "high": auc["high"]}  # fmt: skip
            row |= {m: report[m]["value"] for m in ("average_precision", "eer", "log_loss", "accuracy")}
            rows.append(row)
    table = pd.DataFrame(rows)
    numbers = table.columns[4:]
    table[numbers] = table[numbers].astype(float)
    return table


def _checked(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    missing = [column for column in ("key", "label", "source", "score") if column not in table]
    if missing:
        raise DataError(f"The score table lacks the columns {missing}, it has {list(table.columns)}.")
    if table.empty:
        raise DataError("The score table is empty: predict some clips first.")
    table = table.reset_index(drop=True).copy()
    repeated = table["key"][table["key"].duplicated()]
    if len(repeated):
        raise DataError(f"{len(repeated)} keys occur twice in the score table, such as {repeated.iloc[0]!r}.")
    for column in [c for c in (*SCORES, "label", *OWN_LABELS.values()) if c in table]:
        numbers = pd.to_numeric(table[column], errors="coerce").astype("Float64").astype(float)
        allowed = numbers.between(0, 1) if column in SCORES else numbers.isin([0, 1])
        bad = table[column].notna() & ~allowed
        if bad.any():
            row = table[bad].iloc[0]
            what = "P(fake) in [0, 1]" if column in SCORES else "0, 1 or missing"
            raise DataError(
                f"Column {column!r} of the score table must be {what}; {int(bad.sum())} rows are not, such "
                f"as {row[column]!r} of {row['key']!r}."
            )
        table[column] = numbers
    warnings = []
    alone = table["source"].isna()
    if alone.any():
        warnings.append(f"{int(alone.sum())} clips have no source: each counts as a source of its own")
        table["source"] = table["source"].astype(object).where(~alone, "clip:" + table["key"].astype(str))
    return table, warnings


def _evaluate_column(labelled: pd.DataFrame, column: str, options: dict[str, Any]) -> dict[str, Any]:
    scored = labelled[labelled[column].notna()]
    entry: dict[str, Any] = {
        "overall": _report(scored, column, "label", options),
        "methods": {},
        "own_label": None,
        "unscored": _unscored(labelled, column),
    }
    if "method" in labelled:
        fake = labelled["label"] == 1
        methods = labelled["method"].astype(object).where(labelled["method"].notna(), "unknown").astype(str)
        for method in sorted(methods[fake].unique()):
            chosen = scored[(scored["label"] == 0) | (methods[scored.index] == method)]
            entry["methods"][method] = _report(chosen, column, "label", options)
    own = OWN_LABELS.get(column)
    if own in labelled:
        entry["own_label"] = _report(scored[scored[own].notna()], column, own, options)
    return entry


def _unscored(labelled: pd.DataFrame, column: str) -> dict[str, Any]:
    rows = labelled[labelled[column].isna()]
    reasons = rows.get(f"{column}_reason", pd.Series(index=rows.index, dtype=object))
    counted = reasons.astype(object).where(reasons.notna(), "no reason recorded").value_counts()
    return {
        "n": len(rows),
        "n_fake": int((rows["label"] == 1).sum()),
        "n_real": int((rows["label"] == 0).sum()),
        "reasons": {str(reason): int(count) for reason, count in counted.items()},
    }


def _report(rows: pd.DataFrame, column: str, label: str, options: dict[str, Any]) -> dict[str, Any]:
    """`binary_report`, or the empty one with its reason where a class has no scored clip."""
    truth = rows[label].astype(int).to_numpy()
    if truth.sum() in (0, len(truth)):
        lacking = "scored" if not len(truth) else "scored fake" if not truth.sum() else "scored genuine"
        return empty_report(truth, f"there is no {lacking} clip", options["threshold"])
    return binary_report(truth, rows[column].to_numpy(float), rows["source"].to_numpy(), **options)


def _evaluate_frames(
    labelled: pd.DataFrame, frames: pd.DataFrame, known: set[str], options: dict[str, Any]
) -> dict[str, Any]:
    """Frames carry the label of their clip: its modality's own where the table knows it, else the clip's."""
    missing = [column for column in ("key", "modality", "logit") if column not in frames]
    if missing:
        raise DataError(f"The frame table lacks the columns {missing}, it has {list(frames.columns)}.")
    strange = frames["key"][~frames["key"].isin(known)]
    if len(strange):
        raise DataError(f"{len(strange)} frames belong to no clip of the table, such as {strange.iloc[0]!r}.")
    clips = labelled.set_index("key")
    result = {}
    for modality, rows in frames.reset_index(drop=True).groupby("modality", sort=True):
        own = OWN_LABELS.get(str(modality))
        truth = "label" if own not in clips or clips[own].isna().all() else own
        usable = clips.index[clips[truth].notna()]
        rows = rows[rows["key"].isin(usable)]
        values = rows["logit"].astype("Float64").astype(float)
        scored = rows[np.isfinite(values)]
        frame = _joined(clips, truth, scored["key"].to_numpy(), values[scored.index].to_numpy())
        clip = _joined(clips, truth, *aggregate_mean_logit(scored["key"], values[scored.index]))
        result[str(modality)] = {
            "label": truth,
            "n_unscored": len(rows) - len(scored),
            "frame": _report(frame, "p", "truth", options),
            "clip_mean_logit": _report(clip, "p", "truth", options),
        }
    return result


def _joined(clips: pd.DataFrame, truth: str, keys: np.ndarray, logits: np.ndarray) -> pd.DataFrame:
    rows = clips.loc[list(keys)]
    values = {"p": expit(logits), "truth": rows[truth].to_numpy(), "source": rows["source"].to_numpy()}
    return pd.DataFrame(values)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write beside and rename, so that a killed run leaves the old file or the new one; NaN is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", text=True)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
