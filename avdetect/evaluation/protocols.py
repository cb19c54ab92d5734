"""From a table of scored clips to the metrics of a run.

Unscored clips are counted with their reasons and left out; no score is ever invented for them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import rankdata

from avdetect.errors import DataError
from avdetect.evaluation.aggregate import aggregate
from avdetect.evaluation.calibration import Thresholds, band_report
from avdetect.evaluation.metrics import (
    METRICS,
    binary_report,
    brier,
    ece,
    empty_report,
    log_loss,
    operating_report,
)
from avdetect.evaluation.selective import risk_at_coverage, risk_coverage

#: column of the score table -> name in metrics and plots
SCORES = {
    "score": "fused", "visual": "visual", "audio": "audio", "lipsync": "lipsync", "audio_trimmed": "audio, trimmed",
}  # fmt: skip
#: column with the truth of one modality alone
OWN_LABELS = {"visual": "visual_label", "audio": "audio_label", "audio_trimmed": "audio_label"}
#: metrics that depend on the order of the clips alone; all that a score without calibration can be measured by
RANK_METRICS = ("roc_auc", "average_precision", "eer")
#: how frame scores are joined to clip scores, beside what the detector itself does (`evaluation.aggregate`)
AGGREGATIONS = ("mean_logit", "mean_probability", "top_10", "max")
_COVERAGES = (0.5, 0.8, 0.9, 0.95)
#: fewer clips of a class than this, and a group's figures say little
FEW_CLIPS = 10


def evaluate_scores(
    table: pd.DataFrame,
    out_dir: str | Path,
    frames: pd.DataFrame | None = None,
    threshold: float = 0.5,
    thresholds: Thresholds | None = None,
    resamples: int = 1000,
    seed: int = 0,
    by: Sequence[str] = (),
) -> dict[str, Any]:
    """`measure_scores`, written atomically to `out_dir`/metrics.json as well."""
    result = measure_scores(table, frames, threshold, thresholds, resamples, seed, by)
    write_json(result, Path(out_dir) / "metrics.json")
    return result


def measure_scores(
    table: pd.DataFrame,
    frames: pd.DataFrame | None = None,
    threshold: float = 0.5,
    thresholds: Thresholds | None = None,
    resamples: int = 1000,
    seed: int = 0,
    by: Sequence[str] = (),
    calibrated: bool = True,
) -> dict[str, Any]:
    """Measure every score column of `table`.

    `table`: one row per clip; `key` (unique), `label` (0, 1 or missing), `source`, `score` = fused P(fake),
    and as far as there: `visual`, `audio`, `lipsync`, `audio_trimmed` (the audio without the silence at its
    ends) = P(fake) of a modality, `method` of the fakes, `visual_label`, `audio_label`, and `NAME_reason`
    telling why the column NAME has no value. None or NaN = unscored. `frames`: one row per judged frame or
    window; `key`, `modality`, `logit` (raw, NaN = unscored). `threshold`: the P(fake) from which a clip counts
    as fake in accuracy and the like; `thresholds`: the uncertain band of the fused score. `by`: columns of
    `table` (quality, gender, …) of whose every value a report is made. `calibrated` false: `score` is any
    finite number that rises with fakes, and only `RANK_METRICS` are measured.

    Result: "clips" -> fused/visual/audio/lipsync -> "overall" (a `binary_report`, all clips), "methods" (each
    kind of fake against all genuine clips), "own_label" (against the modality's own truth, None where
    unknown), "unscored", "operating" (rates at fixed rates), "calibration" (log loss, Brier, ECE of the sigmoid
    of NAME_logit "before", and of the score "after", against the column "label": the modality's own where it
    is known) and "selective" (coverage and risk); "frames" -> modality -> "label", "frame" and "clip_HOW" for
    `AGGREGATIONS`; "groups" -> column -> value -> score -> report; "band"; "warnings". What cannot be measured
    has None for values and a "reason". Raises DataError on tables that break these rules.
    """
    table, warnings = _checked(table, calibrated)
    options = {"threshold": threshold, "seed": seed, "resamples": resamples, "calibrated": calibrated}
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
        "calibrated": calibrated,
        "clips": clips,
        "frames": {},
        "groups": {column: _evaluate_groups(labelled, column, columns, options) for column in by},
        "band": None,
        "warnings": warnings,
    }
    if frames is not None:
        result["frames"] = _evaluate_frames(labelled, frames, set(table["key"]), options)
    scored = labelled[labelled["score"].notna()]
    if thresholds is not None and len(scored):
        result["band"] = band_report(scored["label"], scored["score"], thresholds)
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


def _checked(table: pd.DataFrame, calibrated: bool) -> tuple[pd.DataFrame, list[str]]:
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
        if column not in SCORES:
            allowed, what = numbers.isin([0, 1]), "0, 1 or missing"
        elif calibrated:
            allowed, what = numbers.between(0, 1), "P(fake) in [0, 1]"
        else:
            allowed, what = pd.Series(np.isfinite(numbers), index=numbers.index), "a finite number"
        bad = table[column].notna() & ~allowed
        if bad.any():
            row = table[bad].iloc[0]
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
    measured = entry["overall"]["reason"] is None
    entry |= _details(scored, column, options) if measured else dict.fromkeys(_DETAILS)
    return entry


_DETAILS = ("operating", "calibration", "selective")


def _details(scored: pd.DataFrame, column: str, options: dict[str, Any]) -> dict[str, Any]:
    """Rates at fixed rates, calibration before and after, coverage and risk of one score; both classes there."""
    truth, scores = scored["label"].to_numpy(int), scored[column].to_numpy(float)
    found: dict[str, Any] = dict.fromkeys(_DETAILS) | {"operating": operating_report(truth, scores)}
    if not options["calibrated"]:
        return found
    curve = risk_coverage(truth, scores, options["threshold"])
    at = {f"{share:g}": risk_at_coverage(curve, share) for share in _COVERAGES}
    sums = {name: curve[name] for name in ("aurc", "excess_aurc", "risk_at_full")}
    found["selective"] = sums | {"risk_at_coverage": at}
    if (stages := calibration_stages(scored, column)) is not None:
        label, truth, before, after = stages
        fits = {"before": _fit_of(truth, before), "after": _fit_of(truth, after)}
        found["calibration"] = {"label": label, **fits}
    return found


def calibration_stages(scored: pd.DataFrame, column: str) -> tuple[str, np.ndarray, ...] | None:
    """(label column, truth (N,), P(fake) before (N,), after (N,)) of a score; None where it has no logits.

    A modality is calibrated against its own truth, so that is what its P(fake) is held against, where known.
    """
    if f"{column}_logit" not in scored:
        return None
    own = OWN_LABELS.get(column)
    label = own if own in scored and scored[own].notna().any() else "label"
    logits = scored[f"{column}_logit"].astype("Float64").to_numpy(float, na_value=np.nan)
    known = np.isfinite(logits) & scored[label].notna().to_numpy()
    if not known.any():
        return None
    truth = scored[label][known].to_numpy(int)
    return label, truth, expit(logits[known]), scored[column].to_numpy(float)[known]


def _fit_of(truth: np.ndarray, p: np.ndarray) -> dict[str, float]:
    return {"n": len(p), "log_loss": log_loss(truth, p), "brier": brier(truth, p), "ece": ece(truth, p)}


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
    settings = {name: options[name] for name in ("threshold", "seed", "resamples")}
    scores, sources = rows[column].to_numpy(float), rows["source"].to_numpy()
    if options["calibrated"]:
        return binary_report(truth, scores, sources, **settings)
    # Ranks keep the order and its ties: these metrics and their intervals are the same for them.
    report = binary_report(truth, rankdata(scores, "dense") / (len(scores) + 1), sources, **settings)
    unknown = {"value": None, "low": None, "high": None}
    return report | {name: unknown for name in METRICS if name not in RANK_METRICS} | {"confusion": None}


def _evaluate_groups(
    labelled: pd.DataFrame, by: str, columns: dict[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    """Reports per value of a column and score: genuine clips and fakes of that value alone."""
    if by not in labelled:
        raise DataError(
            f"The clips have no column {by!r} to group by: choose of {', '.join(map(str, labelled.columns))}."
        )
    values = labelled[by].astype(object).where(labelled[by].notna(), "not known").astype(str)
    groups: dict[str, Any] = {}
    for value in sorted(values.unique()):
        rows = labelled[values == value]
        groups[value] = {}
        for column, name in columns.items():
            report = _report(rows[rows[column].notna()], column, "label", options)
            for kind, text in (("n_real", "genuine"), ("n_fake", "fake")):
                if report[kind] < FEW_CLIPS:
                    said = f"only {report[kind]} {text} clips: too few to compare this group with others"
                    report["warnings"] = [*report["warnings"], said]
            groups[value][name] = report
    return groups


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
        keys, logits = scored["key"], values[scored.index]
        joined = {how: _joined(clips, truth, *aggregate(keys, logits, how)) for how in AGGREGATIONS}
        result[str(modality)] = {
            "label": truth,
            "n_unscored": len(rows) - len(scored),
            "frame": _report(frame, "p", "truth", options),
            **{f"clip_{how}": _report(rows, "p", "truth", options) for how, rows in joined.items()},
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
