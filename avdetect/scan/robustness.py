"""A detector on the same test clips under every degradation; what is finished is kept, and a killed run goes on.

out/prepared/            the clean clips, read once (data.prepare)
out/request.json         what the scores belong to: detector, clips, seed
out/parts/clean/         evidence of the clean clips, so that what a degradation leaves alone isn't run again
out/parts/NAME-STRENGTH/ scores, 64 clips a file
out/scores.parquet       all scores; out/robustness.csv, .json: the table; out/plots/: the curves
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from avdetect.data import Manifest, PreparedSet, read_format, require_both_classes, stage_label
from avdetect.data.guard import open_test_data
from avdetect.data.prepare import prepare
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.protocols import write_json
from avdetect.evaluation.robustness import CLEAN, affected, plot_robustness, robustness_table
from avdetect.evidence import MODALITIES, Evidence, collect_evidence
from avdetect.inference import Bundle, choose_bundle, load_bundle
from avdetect.inference.scoring import calibrated_scores, fused_logits
from avdetect.scan.clip_scores import detector_hash
from avdetect.scan.test_sets import selected_on, training_warnings
from avdetect.training.checkpoints import load_state, save_state
from avdetect.transforms.degrade import DEGRADATIONS, Degradation, degradation, degrade

SCHEMA = "avdetect.robustness/1"
SHARD = 64  # clips in a file
Condition = tuple[Degradation, float]


def parse_conditions(text: str | None) -> list[Condition]:
    """`h264,mp3` (all strengths of the standard test), `h264:23:40` (these); None = all of `DEGRADATIONS`.

    Raises ConfigError for what is no degradation, or a strength out of its range.
    """
    wanted: dict[tuple[str, float], Condition] = {}
    for part in text.split(",") if text else DEGRADATIONS:
        name, *given = part.strip().split(":")
        entry = degradation(name)
        try:
            strengths = [float(value) for value in given] or list(entry.strengths)
        except ValueError:
            raise ConfigError(
                f"{part.strip()!r}: strengths are numbers, as in {name}:{entry.strengths[0]:g}"
            ) from None
        for strength in strengths:
            wanted[name, float(strength)] = degradation(name, strength), float(strength)
    return list(wanted.values())


@open_test_data()
def measure_robustness(
    bundle: str | Path | None,
    data: str | Path,
    out: str | Path,
    conditions: list[Condition],
    say: Callable[[str], None],
    split: str = "test",
    pictures: str | None = None,
    workers: int = 2,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[pd.DataFrame, int]:
    """Judge the clips of a split clean and under every condition; write and return the table of the loss.

    bundle: as `find_bundle` takes it; data: a manifest or a dataset's folder; split: "test", "val", "train" or
    "all"; pictures: how still pictures are read (`ClipSettings.pictures`), None as the detector says. Returns the
    table (`robustness_table`) and how many files could not be read. Raises DataError where there is nothing to
    measure, ConfigError where `out` holds the scores of something else.
    """
    folder, out = choose_bundle(bundle, say), Path(out)
    detector = load_bundle(folder)
    if torch.cuda.is_available():
        for encoder in detector.encoders.values():
            encoder.to("cuda")
    clip = replace(detector.clip, pictures=pictures) if pictures else detector.clip
    manifest = _chosen(read_format("auto", data, seed=seed, check=False), split, say)
    prepared = prepare(manifest, out / "prepared", clip, workers=workers)
    table = prepared.table[prepared.table["status"] == "ok"].reset_index(drop=True)
    require_both_classes(table, "clip", "what could be read of it")
    _claim(out, detector, table, seed)
    run = _Run(detector, prepared, table, out / "parts", seed, say)
    scores = pd.concat(
        [run.clean(), *(run.degraded(*condition) for condition in conditions)], ignore_index=True
    )
    loss = robustness_table(truths(table, detector.encoders), scores, detector.thresholds, resamples, seed)
    said = {
        "bundle": {
            "folder": str(folder),
            "name": detector.card.get("name"),
            "sha256": detector_hash(detector),
        },
        "selected_on": selected_on(detector.card),
        "data": str(data),
        "warnings": training_warnings(detector, manifest),
    }
    for text in said["warnings"]:
        say(text)
    said |= {"split": split, "seed": seed, "resamples": resamples, "clips": len(table)}
    _write(out, scores, loss, said)
    return loss, int((prepared.table["status"] != "ok").sum())


def show(table: pd.DataFrame, as_json: bool) -> str:
    """The table for people, or one JSON object a line."""
    if as_json:
        return "\n".join(json.dumps(row, allow_nan=False) for row in _records(table))
    shown = [
        "degradation",
        "strength",
        "score",
        "n",
        "roc_auc",
        "roc_auc_low",
        "roc_auc_high",
        "roc_auc_change",
    ]
    shown += [
        "roc_auc_change_low",
        "roc_auc_change_high",
        "eer",
        "eer_change",
        "genuine_called_fake",
        "fakes_found",
    ]
    short = {"roc_auc": "AUC", "genuine_called_fake": "genuine called fake", "fakes_found": "fakes found"}
    names = {c: short.get(c, c.replace("roc_auc_change", "change").replace("roc_auc_", "")) for c in shown}
    return table[shown].rename(columns=names).round(3).to_string(index=False, na_rep="-")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in table.to_dict("records")]


def truths(table: pd.DataFrame, encoders: dict[str, Encoder]) -> pd.DataFrame:
    """`key`, `source` and the truth (1, 0, NaN) of each score: the clip's, and each modality's own (`stage_label`)."""
    columns = {"score": "clip"} | {name: name for name in MODALITIES if name in encoders}
    known = {
        column: stage_label(table, stage).astype("Float64").to_numpy(float, na_value=np.nan)
        for column, stage in columns.items()
    }
    sources = table["source"].astype(object).where(table["source"].notna(), "clip:" + table["key"])
    return pd.DataFrame({"key": table["key"].to_numpy(), "source": sources.to_numpy(), **known})


def _chosen(manifest: Manifest, split: str, say: Callable[[str], None]) -> Manifest:
    if split != "all":
        found = sorted(manifest.table["split"].dropna().unique())
        if split not in found:
            there = f"only {', '.join(found)}" if found else "no split at all"
            raise DataError(f"{manifest.name} has no {split} split, {there}: choose another, or --split all")
        manifest = manifest.where(f"split == '{split}'")
    return manifest.where("label.notna()").existing(say)


class _Run:
    """The passes over the clips."""

    def __init__(
        self,
        detector: Bundle,
        prepared: PreparedSet,
        table: pd.DataFrame,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
    ):
        self.detector, self.prepared, self.table = detector, prepared, table
        self.folder, self.seed, self.say = folder, seed, say
        self.evidence: list[Evidence] = []

    def clean(self) -> pd.DataFrame:
        """Scores of the clean clips; keeps their evidence for `degraded`."""
        for start in range(0, len(self.table), SHARD):
            part = self.table.iloc[start : start + SHARD]
            path = self.folder / CLEAN / f"{start // SHARD:05d}.pt"
            if not path.exists():
                found = [
                    collect_evidence(self.prepared.load(row), self.detector.encoders)
                    for _, row in part.iterrows()
                ]
                save_state({"rows": [evidence.to_dict() for evidence in found]}, path)
            self.evidence += [Evidence.from_dict(values) for values in load_state(path)["rows"]]
            self.say(f"{CLEAN}  {len(self.evidence)} of {len(self.table)} clips")
        rows = self._scores(self.table, self.evidence)
        return pd.DataFrame(rows).assign(degradation=CLEAN, strength=np.nan)

    def degraded(self, entry: Degradation, strength: float) -> pd.DataFrame:
        """Scores under one degradation at one strength, of the same clips in the same order."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(self.table), SHARD):
            path = self.folder / f"{entry.name}-{strength:g}" / f"{start // SHARD:05d}.json"
            if not path.exists():
                part = self.table.iloc[start : start + SHARD]
                found = [
                    self._judge(row, self.evidence[start + place], entry, strength)
                    for place, (_, row) in enumerate(part.iterrows())
                ]
                write_json({"rows": self._scores(part, found)}, path)
            rows += json.loads(path.read_text())["rows"]
            self.say(f"{entry.name} at {strength:g}  {len(rows)} of {len(self.table)} clips")
        return pd.DataFrame(rows).assign(degradation=entry.name, strength=strength)

    def _judge(self, row: pd.Series, clean: Evidence, entry: Degradation, strength: float) -> Evidence:
        """Run the encoders that the degradation can affect; what the others said of the clean clip stays."""
        clip = degrade(self.prepared.load(row), entry.name, strength, row["key"], self.seed)
        touched = [name for name in self.detector.encoders if name in affected(entry.part)]
        found = collect_evidence(clip, {name: self.detector.encoders[name] for name in touched})
        return Evidence(
            tracks=found.tracks if "visual" in touched else clean.tracks,
            voice=found.voice if "audio" in touched else clean.voice,
            sync=found.sync if "lipsync" in touched else clean.sync,
            reasons={},  # scores do not need them
        )

    def _scores(self, table: pd.DataFrame, evidence: list[Evidence]) -> list[dict[str, Any]]:
        logits = fused_logits(self.detector.fusion, evidence)
        rows = []
        for place, (key, found) in enumerate(zip(table["key"], evidence, strict=True)):
            scores = calibrated_scores(
                self.detector, {name: float(values[place]) for name, values in logits.items()}
            )
            row = {"key": key, "score": scores["fused"]}
            row |= {name: scores[name] for name in self.detector.encoders}
            rows.append(row | {"offset_ms": found.sync.offset_ms if found.sync else None})
        return rows


def _claim(out: Path, detector: Bundle, table: pd.DataFrame, seed: int) -> None:
    """Note what the scores in `out` belong to; raise ConfigError where it is something else."""
    says = ("encoders", "fusion", "calibration", "thresholds")
    request = {
        "schema": SCHEMA,
        "detector": _digest([detector.card[name] for name in says]),
        # By size and time too: what was made of a file that has changed since is no longer of use.
        "clips": _digest(table[["key", "size_bytes", "mtime_ns"]].astype(str).to_numpy().tolist()),
        "seed": seed,
    }
    path = out / "request.json"
    if path.exists() and (before := json.loads(path.read_text())) != request:
        differing = [name for name in request if before.get(name) != request[name]]
        raise ConfigError(
            f"{out} holds the results of another request ({', '.join(differing)} differ): give another folder, or "
            "delete it to start anew"
        )
    write_json(request, path)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write(out: Path, scores: pd.DataFrame, table: pd.DataFrame, said: dict[str, Any]) -> None:
    part = out / ".scores.parquet.part"
    numbers = [name for name in scores if name not in ("key", "degradation")]
    scores.astype(dict.fromkeys(numbers, float)).to_parquet(part, index=False)
    part.replace(out / "scores.parquet")
    part = out / ".robustness.csv.part"
    table.to_csv(part, index=False, lineterminator="\n")
    part.replace(out / "robustness.csv")
    settings = {name: asdict(DEGRADATIONS[name]) for name in table["degradation"].unique() if name != CLEAN}
    write_json(
        {"schema": SCHEMA, **said, "degradations": settings, "rows": _records(table)}, out / "robustness.json"
    )
    for metric, name in (("roc_auc", "auc.png"), ("eer", "eer.png")):
        plot_robustness(table, metric, out / "plots" / name)
