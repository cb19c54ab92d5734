"""`avdetect evaluate`: a detector, or a score file, against one or several test sets.

The output folder: `scores.parquet` (a row a clip), `metrics.json`, `plots/`, `evaluation.html`, and
`journal.jsonl`, from which a killed run goes on. Nothing is chosen here: thresholds and calibration come with
the bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from avdetect.data import Manifest
from avdetect.data.prepare import PreparedSet
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import Thresholds, measure_scores
from avdetect.evaluation.audit import audit_warnings
from avdetect.evaluation.fairness import group_report
from avdetect.evaluation.protocols import write_json
from avdetect.evaluation.scorefiles import LAYOUTS, write_scorefile
from avdetect.inference import Bundle, find_bundle, load_bundle
from avdetect.scan.clip_scores import Options, detector_hash, score_manifest
from avdetect.scan.evaluation_page import write_page
from avdetect.scan.evaluation_plots import draw_all
from avdetect.scan.lock import only_writer
from avdetect.scan.score_tables import clip_table, embedding_table, frame_table, scorefile_table
from avdetect.scan.test_sets import (
    TestSet,
    grouping_columns,
    read_test_sets,
    selected_on,
    training_warnings,
)

SCHEMA = "avdetect.evaluation/1"
MATRIX = ("roc_auc", "average_precision", "eer", "accuracy")
AGGREGATION = {
    "visual": "mean of the crop logits of a face track; the most suspicious track decides",
    "audio": "mean of the window logits",
    "lipsync": "mean over stretches of a minute, weighted by their speech; the track that says most decides",
    "fused": "late fusion of the modalities; where one alone can be judged, that one's score",
}
Say = Callable[[str], None]


@dataclass
class Measured:
    """A test set with all that was found on it. frames, embeddings: None and empty for a score file."""

    set: TestSet
    table: pd.DataFrame
    result: dict[str, Any]
    frames: pd.DataFrame | None
    embeddings: dict[str, pd.DataFrame]


def evaluate(
    bundle: str | Path | None,
    data: Sequence[str | Path],
    out: str | Path,
    split: str = "test",
    by: Sequence[str] = (),
    workers: int = 2,
    options: Options | None = None,
    prepared: Sequence[str | Path] = (),
    audit: str | Path | None = None,
    export: str | None = None,
    seed: int = 0,
    resamples: int = 1000,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Judge the clips of `split` in every manifest (or dataset folder) of `data`; returns what metrics.json holds.

    `bundle`: as `find_bundle`; `by`: manifest columns to report on value by value; `prepared`: folders of
    `avdetect data prepare`, read instead of the media where they hold a clip; `audit`: the shortcut audit of
    the manifests, else the `audit.json` beside each; `export`: also write score files of this layout;
    `resamples`: of the bootstrap. Clips that cannot be read are rows with a reason, counted and never scored.
    """
    out, options = Path(out), options or Options()
    _check_export(export)
    loaded = load_bundle(find_bundle(bundle))
    if options.trim_silence and "audio" not in loaded.encoders:
        raise ConfigError("this detector has no voice encoder: leave --trim-silence out")
    sets = read_test_sets(data, split, seed)
    thresholds = Thresholds(**loaded.thresholds["fused"])
    measured = []
    with _locked(out):
        for one in sets:
            say(f"{one.name}: {len(one.manifest)} clips")
            records = score_manifest(
                one.manifest, loaded, options, out / "journal.jsonl", workers,
                _prepared_set(prepared, one.manifest),
                lambda done, total, name=one.name: say(f"{name}: {done} of {total} clips"),
            )  # fmt: skip
            one.warnings += training_warnings(loaded, one.manifest) + _audit_warnings(one, audit)
            table, frames = clip_table(one.manifest, records, loaded), frame_table(records)
            columns = grouping_columns(by, table, one)
            result = measure_scores(
                table, frames, thresholds=thresholds, resamples=resamples, seed=seed, by=columns
            )
            result |= _unread(table) | {"fairness": _fairness(table, columns, resamples, seed)}
            measured.append(Measured(one, table, result, frames, embedding_table(records)))
        header = {"bundle": _about(loaded), "scores": None, "split": split, "by": list(by)}
        header["options"] = asdict(options)
        return _finish(measured, header, out, thresholds, export, seed, say)


def evaluate_scorefile(
    scores: str | Path,
    data: Sequence[str | Path],
    out: str | Path,
    layout: str | None = None,
    split: str = "test",
    by: Sequence[str] = (),
    audit: str | Path | None = None,
    seed: int = 0,
    resamples: int = 1000,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """As `evaluate`, for somebody else's scores (`evaluation.scorefiles`) of the clips of the manifests."""
    out, measured = Path(out), []
    with _locked(out):
        for one in read_test_sets(data, split, seed):
            table, calibrated, warnings = scorefile_table(one.manifest, Path(scores), layout)
            one.warnings += warnings + _audit_warnings(one, audit)
            columns = grouping_columns(by, table, one)
            result = measure_scores(table, calibrated=calibrated, resamples=resamples, seed=seed, by=columns)
            fairness = _fairness(table, columns, resamples, seed) if calibrated else {}
            measured.append(Measured(one, table, result | _unread(table) | {"fairness": fairness}, None, {}))
        header = {"bundle": None, "scores": str(scores), "split": split, "by": list(by), "options": {}}
        return _finish(measured, header, out, None, None, seed, say)


def _finish(
    measured: list[Measured],
    header: dict[str, Any],
    out: Path,
    thresholds: Thresholds | None,
    export: str | None,
    seed: int,
    say: Say,
) -> dict[str, Any]:
    """Figures first, as they are what cannot be done without; pictures and the page after them."""
    for one in measured:
        one.result["warnings"] = one.set.warnings + one.result["warnings"]
    report = {
        "schema": SCHEMA,
        **header,
        "aggregation": AGGREGATION if header["bundle"] else None,
        "seed": seed,
        "sets": {one.set.name: one.result for one in measured},
        "matrix": _matrix(measured),
        "exported": _export(measured, export, out),
        "warnings": [f"{one.set.name}: {text}" for one in measured for text in one.result["warnings"]],
    }
    tables = [one.table.assign(test_set=one.set.name) for one in measured]
    part = out / ".scores.parquet.part"
    pd.concat(tables, ignore_index=True).to_parquet(part)
    os.replace(part, out / "scores.parquet")
    write_json(report, out / "metrics.json")
    say("drawing")
    pictures = draw_all(measured, report, out / "plots", thresholds, seed, say)
    write_page(report, measured, pictures, out / "evaluation.html")
    return report


def _check_export(export: str | None) -> None:
    if export is not None and export not in LAYOUTS:
        raise ConfigError(f"unknown layout of score files {export!r}: one of {', '.join(LAYOUTS)}")


def _export(measured: list[Measured], layout: str | None, out: Path) -> dict[str, Any] | None:
    """One score file a test set. Raw logits where one calibration served all clips, else P(fake)."""
    if layout is None:
        return None
    files = {}
    for one in measured:
        scored = one.table[one.table["score"].notna()]
        column = LAYOUTS[layout].column
        if column == "score_logit" and scored["decided_by"].nunique() > 1:
            column = "score"  # logits of different modalities are not of one scale
        path = write_scorefile(scored, out / f"scores_{one.set.slug}.{layout}.txt", layout, column)
        left_out = len(one.table) - len(scored)
        files[one.set.name] = {
            "file": path.name,
            "column": column,
            "clips": len(scored),
            "left_out": left_out,
        }
    return {"layout": layout, "files": files}


def _matrix(measured: list[Measured]) -> dict[str, Any]:
    """Score -> test set -> the main figures."""
    matrix: dict[str, dict[str, Any]] = {}
    for one in measured:
        for name, entry in one.result["clips"].items():
            overall = entry["overall"]
            shown = {metric: overall[metric] for metric in MATRIX}
            counts = {key: overall[key] for key in ("n", "n_fake", "n_real", "reason")}
            matrix.setdefault(name, {})[one.set.name] = counts | shown
    return matrix


def _unread(table: pd.DataFrame) -> dict[str, Any]:
    """Clips without a verdict for want of a file, by name; they are in no other figure."""
    lost = table[table["status"] != "ok"]
    return {
        "n_unreadable": int((lost["status"] == "unreadable").sum()),
        "n_missing": int((lost["status"] == "missing").sum()),
        "unread": [
            {"key": row.key, "status": row.status, "error": row.error}
            for row in lost.head(50).itertuples()
        ],
    }  # fmt: skip


def _fairness(table: pd.DataFrame, by: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Rates and gaps between the values of every column, at the threshold of 0.5 on the fused score."""
    scored = table[table["label"].notna() & table["score"].notna()]
    sources = scored["source"].astype(object).where(scored["source"].notna(), "clip:" + scored["key"])
    return {
        column: group_report(
            scored["label"].to_numpy(int), scored["score"].to_numpy(float), {column: scored[column]},
            sources.to_numpy(), resamples=resamples, seed=seed,
        )
        for column in by
        if scored[column].notna().any()
    }  # fmt: skip


def _prepared_set(folders: Sequence[str | Path], manifest: Manifest) -> PreparedSet | None:
    """The folder that holds most of the manifest's clips, None where no folder was named."""
    opened = [PreparedSet.open(folder, manifest) for folder in folders]
    return max(opened, key=lambda one: int((one.table["status"] == "ok").sum()), default=None)


def _audit_warnings(one: TestSet, named: str | Path | None) -> list[str]:
    """What the shortcut audit of the set flagged, if there is one."""
    folder = one.path if one.path.is_dir() else one.path.parent
    path = Path(named) if named is not None else folder / "audit.json"
    if named is None and not path.is_file():
        return []
    try:
        return audit_warnings(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as a shortcut audit ({error}): write it with `avdetect data audit`"
        ) from error


def _about(bundle: Bundle) -> dict[str, Any]:
    """What is being tested, and what was selected on what in its making."""
    card = bundle.card
    return {
        "name": card.get("name"),
        "folder": str(bundle.folder),
        "sha256": detector_hash(bundle),
        "encoders": {name: entry["name"] for name, entry in card["encoders"].items()},
        "trained_on": card.get("training_data"),
        "manifest_sha256": card.get("manifest_sha256"),
        "selected_on": selected_on(card),
        "calibration": {name: value.to_dict() for name, value in bundle.calibration.items()},
        "thresholds": bundle.thresholds,
        "warnings": card.get("warnings", []),
    }


@contextmanager
def _locked(out: Path):
    """The folder, for this evaluation alone; ConfigError where something else has written it."""
    found = out / "metrics.json"
    if found.is_file() and f'"schema": "{SCHEMA}"' not in found.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"{found} is of something else, a recipe's run perhaps: name another --out")
    with only_writer(out):
        yield
