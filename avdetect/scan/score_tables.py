"""From the records of clips, or from other people's score files, to the tables that are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avdetect.data import Manifest
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.scorefiles import FILE_OF_KEY, LAYOUTS, read_scorefile
from avdetect.evidence import MODALITIES
from avdetect.inference import Bundle
from avdetect.inference.scoring import calibrated, calibrated_scores
from avdetect.scan.clip_scores import unpacked

UNREAD = {"unreadable": "the file could not be read", "missing": "the file is not there"}
TRIMMED = "audio_trimmed"


def clip_table(manifest: Manifest, records: list[dict[str, Any]], bundle: Bundle) -> pd.DataFrame:
    """One row a clip: what the manifest says, `status`, `error`, and per score P(fake), logit and reason.

    Columns `score` (fused), one per modality of the bundle, and `audio_trimmed` where it was asked for, each
    with `NAME_logit` and `NAME_reason`. `score_logit` is the logit that `score` was made from, `decided_by`
    says whose: the fused one, or that of the only modality that could be judged.
    """
    table = manifest.table.drop(columns=["root"]).assign(key=manifest.keys)
    table["status"] = [record["status"] for record in records]
    table["error"] = pd.array([record.get("error") for record in records], dtype="string")
    scored = [_scores_of(record, bundle) for record in records]
    trimmed = [TRIMMED] if any(TRIMMED in (record.get("logits") or {}) for record in records) else []
    for column in ("score", *bundle.encoders, *trimmed):
        for suffix, kind in (("", float), ("_logit", float)):
            values = [row.get(column + suffix) for row in scored]
            table[column + suffix] = np.array([np.nan if v is None else v for v in values], dtype=kind)
        table[f"{column}_reason"] = pd.array([row.get(f"{column}_reason") for row in scored], dtype="string")
    table["decided_by"] = pd.array([row.get("decided_by") for row in scored], dtype="string")
    return table.reset_index(drop=True)


def _scores_of(record: dict[str, Any], bundle: Bundle) -> dict[str, Any]:
    if record["status"] != "ok":
        names = ("score", *bundle.encoders, TRIMMED)
        return {f"{name}_reason": UNREAD[record["status"]] for name in names}
    logits = {name: np.nan if v is None else v for name, v in record["logits"].items()}
    trimmed = logits.pop(TRIMMED, np.nan)
    scores = calibrated_scores(bundle, logits)
    judged = [name for name in MODALITIES if scores[name] is not None]
    row: dict[str, Any] = {"score": scores["fused"]}
    if scores["fused"] is None:
        row["score_reason"] = "; ".join(dict.fromkeys(record["reasons"][name] for name in bundle.encoders))
    else:
        row["decided_by"] = judged[0] if len(judged) == 1 else "fused"
        row["score_logit"] = logits[row["decided_by"]]
    for name in bundle.encoders:
        row |= {
            name: scores[name],
            f"{name}_logit": logits[name],
            f"{name}_reason": record["reasons"].get(name),
        }
    if np.isfinite(trimmed):
        row |= {TRIMMED: calibrated(bundle, "audio", trimmed), f"{TRIMMED}_logit": trimmed}
    row[f"{TRIMMED}_reason"] = record["reasons"].get(TRIMMED)
    return row


def frame_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per judged crop, voice window and second of lip-sync: `key`, `modality`, `logit`."""
    rows = [
        (record["key"], name, logit)
        for record in records
        for name, logits in (record.get("frames") or {}).items()
        for logit in logits
    ]
    return pd.DataFrame(rows, columns=["key", "modality", "logit"])


def embedding_table(records: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Modality -> one row per clip whose embedding was kept: index `key`, one column a dimension."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for record in records:
        for name, text in (record.get("embeddings") or {}).items():
            found.setdefault(name, {})[record["key"]] = unpacked(text)
    return {name: pd.DataFrame.from_dict(rows, orient="index") for name, rows in found.items()}


def scorefile_table(
    manifest: Manifest, path: Path, layout: str | None = None
) -> tuple[pd.DataFrame, bool, list[str]]:
    """A manifest with the scores of somebody else's file: the table, whether they are P(fake), and warnings.

    layout: of `scorefiles.LAYOUTS`; None tells it by the first line. ASVspoof files name utterances (file
    names without their ending), those of AV-Deepfake1M files below the split's folder. Clips that are not in
    the file stay, unscored. Raises DataError where no clip is in it.
    """
    layout = layout or _told_layout(path)
    given = read_scorefile(path, layout, "score")
    table = manifest.table.drop(columns=["root"]).assign(key=manifest.keys).reset_index(drop=True)
    names = _names_in_file(table, layout)
    repeated = names[names.duplicated()]
    if len(repeated):
        raise DataError(
            f"{len(repeated)} clips share a name in {path}, such as {repeated.iloc[0]!r}: give a split"
        )
    table["score"] = names.map(given.set_index("key")["score"]).astype(float)
    table["status"], table["error"] = "ok", pd.NA
    absent = table["score"].isna()
    if absent.all():
        raise DataError(
            f"{path} has no clip of {manifest.name}: it names {given['key'].iloc[0]!r} where a clip is "
            f"{names.iloc[0]!r}"
            if len(given)
            else f"{path} holds no score: give another file"
        )
    table["score_reason"] = pd.Series("not in the score file", index=table.index).where(absent)
    warnings = []
    foreign = int((~given["key"].isin(names)).sum())
    if foreign:
        warnings.append(f"{foreign} of {len(given)} lines of {path.name} belong to no chosen clip")
    are_probabilities = layout == "avdeepfake1m" and bool(given["score"].between(0, 1).all())
    if not are_probabilities:
        warnings.append(f"the scores of {path.name} are no probabilities: only their order is measured")
    return table, are_probabilities, warnings


def _told_layout(path: Path) -> str:
    if path.suffix == ".gz":
        raise ConfigError(f"{path} is packed: say its layout with --layout ({' or '.join(LAYOUTS)})")
    try:
        with open(path, encoding="utf-8-sig") as stream:
            first = stream.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a score file: {error}") from error
    return "avdeepfake1m" if ";" in first else "asvspoof"


def _names_in_file(table: pd.DataFrame, layout: str) -> pd.Series:
    if layout == "avdeepfake1m":
        inside = table["key"].str.extract(FILE_OF_KEY)[0]
        return inside.fillna(table["path"])
    stems = table["path"].str.rpartition("/")[2].str.replace(r"\.[^.]+$", "", regex=True)
    return table["utterance"].fillna(stems) if "utterance" in table else stems
