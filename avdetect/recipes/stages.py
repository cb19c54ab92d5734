"""What each stage of a recipe does; `pipeline.py` says in which order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from avdetect.data import Manifest, read_format, require_both_classes
from avdetect.data.demo import make_demo
from avdetect.data.formats.dfdc import DEMO_DATASET
from avdetect.data.prepare import PreparedSet, prepare
from avdetect.data.splits import split_by_source
from avdetect.encoders import Encoder, load_encoder, save_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import (
    Thresholds,
    choose_thresholds,
    evaluate_scores,
    fit_platt,
    plot_evaluation,
    summary_table,
)
from avdetect.fusion import FusionHead
from avdetect.inference.bundle import Bundle, load_bundle, save_bundle
from avdetect.inference.scoring import calibrated_scores, fused_logits
from avdetect.media import ClipSettings
from avdetect.recipes.encoders import fit_encoder, fit_settings, fitted, start_encoder
from avdetect.recipes.evidence_store import EvidenceStore
from avdetect.recipes.run_folder import RunFolder, write_json
from avdetect.training import FusionTask, fit
from avdetect.training.checkpoints import load_state, save_state
from avdetect.training.history import History
from avdetect.weights import sha256_file

DEMO_NOTE = (
    "Trained on the embedded demo set of drawn faces: it shows that the machine works, "
    "it does not detect real deepfakes."
)


class Context:
    """A run: its configuration, its folder, and what the stages so far have made."""

    def __init__(
        self, config: dict[str, Any], run: RunFolder, processes: PartialState, say: Callable[[str], None]
    ):
        self.config, self.run, self.processes, self.say = config, run, processes, say
        self.modalities: list[str] = config["modalities"]
        self.history = History(run.path / "history.jsonl")

    # -- data -----------------------------------------------------------------------------------------------

    def index(self) -> None:
        data = self.config["data"]
        roots = data["root"] if isinstance(data["root"], list) else [data["root"]]
        parts = [self._read_root(root) for root in roots]
        manifest = parts[0] if len(parts) == 1 else Manifest.join(parts, check=False)
        for note in manifest.notes:
            self.say(f"found  {note}")
        if data["where"]:
            manifest = manifest.where(data["where"])
        unlabelled = int(manifest.table["label"].isna().sum())
        if unlabelled:
            self.say(f"found  {unlabelled} clips without a label, which are left out")
            manifest = manifest.where("label.notna()")
        manifest = manifest.check().existing(self.say)
        if not len(manifest):
            raise DataError("no clip is left to work with: check data.root and data.where")
        if manifest.table["split"].isna().any():
            fractions = dict(zip(("train", "val", "test"), data["fractions"], strict=True))
            table = manifest.table.assign(
                split=split_by_source(manifest.table, fractions, self.config["seed"])
            )
            manifest = Manifest(table, name=manifest.name).check()
        if any(stage in self.config["stages"] for stage in (*self.modalities, "fusion")):
            require_both_classes(manifest.table, "clip", manifest.name)  # now, not after hours of preparing
        for line in manifest.summary().splitlines():
            self.say(f"found  {line}")
        manifest.write(self.run.path / "manifest.csv")
        self.run.finish("index", {"clips": len(manifest)})

    @property
    def _demo_alone(self) -> bool:
        return set(self.manifest.table["dataset"]) == {DEMO_DATASET}

    def _read_root(self, root: str | None) -> Manifest:
        if root not in (None, "demo"):
            return read_format("auto", Path(root), seed=self.config["seed"], check=False)
        demo = self.config["data"]["demo"]
        folder = Path(self.config["data"]["work_dir"]) / f"demo-{demo['clips']}-{demo['seed']}"
        self.say(f"index  the embedded demo set of drawn talking faces, in {folder}")
        make_demo(folder, clips=demo["clips"], seed=demo["seed"], workers=self.config["workers"])
        return read_format("dfdc", folder)

    @cached_property
    def manifest(self) -> Manifest:
        path = self.run.path / "manifest.csv"
        if not path.exists():
            raise ConfigError("the index stage has not run in this folder: add it to stages")
        return Manifest.read(path)

    @cached_property
    def clip_settings(self) -> ClipSettings:
        return ClipSettings(**self.config["clip"], crop_size=self.config["encoder"]["visual"]["crop_size"])

    @property
    def _prepared_folder(self) -> Path:
        """One folder per set of clips and settings, so that runs share it."""
        keys = "\n".join(sorted(self.manifest.table["root"] + "/" + self.manifest.table["path"]))
        what = json.dumps(self.clip_settings.to_dict(), sort_keys=True) + keys
        return (
            Path(self.config["data"]["work_dir"])
            / f"prepared-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
        )

    def prepare(self) -> None:
        prepared = prepare(
            self.manifest, self._prepared_folder, self.clip_settings, workers=self.config["workers"]
        )
        counts = prepared.table["status"].value_counts()
        self.run.finish(
            "prepare", {"folder": str(self._prepared_folder), **{k: int(v) for k, v in counts.items()}}
        )

    @cached_property
    def prepared(self) -> PreparedSet:
        return PreparedSet.open(self._prepared_folder, self.manifest)

    # -- encoders -------------------------------------------------------------------------------------------

    def train_encoder(self, modality: str) -> None:
        """Train one encoder and keep its best weights."""
        config, train = self.config["encoder"][modality], self.config["train"][modality]
        seed, folders = self.config["seed"], self.run.checkpoints
        torch.manual_seed(seed)
        encoder = start_encoder(config)
        results = fit_encoder(modality, encoder, self.prepared, train, seed, folders, self.history, self.say)
        if self.processes.is_main_process:
            save_encoder(encoder.eval(), self._weights(modality))
            start = config["weights"] or config.get("published") or "random weights"
            parameters = sum(p.numel() for p in encoder.parameters())
            self.run.finish(
                modality, {"encoder": config["name"], "parameters": parameters, "start": start, **results}
            )
        self.processes.wait_for_everyone()

    def _weights(self, modality: str) -> Path:
        return self.run.path / "checkpoints" / f"{modality}.safetensors"

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        absent = [name for name in self.modalities if not self._weights(name).exists()]
        if absent:
            raise ConfigError(f"the {absent[0]} stage has not run in this folder: add it to stages")
        return {name: load_encoder(self._weights(name)).to(self.processes.device) for name in self.modalities}

    @cached_property
    def evidence(self) -> EvidenceStore:
        return EvidenceStore(self.run.path / "evidence", self.prepared, self.encoders, self.say)

    # -- fusion ---------------------------------------------------------------------------------------------

    def fusion(self) -> None:
        torch.manual_seed(self.config["seed"])
        head = FusionHead(self.evidence.dims)
        result: dict[str, Any] = {"note": "one modality: its encoder's logit is the fused one"}
        if len(self.modalities) > 1:
            settings = self.config["train"]["fusion"]
            with self.processes.main_process_first():  # the others read what it has written
                train, val = self.evidence.features("train"), self.evidence.features("val")
            task = FusionTask(head, train, val, settings["batch"], settings["modality_dropout"])
            fit_ = fit_settings(settings["fit"], self.config["seed"])
            done = fit(task, fit_, self.run.checkpoints("fusion"), self.history, self.say)
            result = fitted(done)
        if self.processes.is_main_process:
            save_state(head.cpu().eval().state_dict(), self.run.path / "checkpoints" / "fusion.pt")
            self.run.finish("fusion", result)
        self.processes.wait_for_everyone()

    @cached_property
    def head(self) -> FusionHead:
        path = self.run.path / "checkpoints" / "fusion.pt"
        if not path.exists():
            raise ConfigError("the fusion stage has not run in this folder: add it to stages")
        head = FusionHead(self.evidence.dims)
        head.load_state_dict(load_state(path))
        return head.eval()

    def calibrate(self) -> None:
        """Probabilities and thresholds from the validation clips, per modality and fused."""
        rate = self.config["train"]["max_false_positive_rate"]
        truths, logits = self.evidence.truths("val"), fused_logits(self.head, self.evidence.rows("val"))
        calibration, thresholds = {}, {}
        for name in ["fused", *self.modalities]:
            truth, logit = truths[name], logits[name]
            if name == "lipsync":
                truth, logit = self.evidence.sync_pairs("val")
            usable = np.isfinite(truth) & np.isfinite(logit)
            fitted = fit_platt(truth[usable].astype(int), logit[usable])
            band = choose_thresholds(truth[usable].astype(int), fitted(logit[usable]), max_fpr=rate)
            calibration[name], thresholds[name] = fitted, band._asdict()
            self.say(f"calibrate  {name}  real below {band.real_below:.2f}, fake above {band.fake_above:.2f}")
        # A user's pictures are searched for faces even where those of the data were face crops already.
        clip = replace(self.clip_settings, pictures="search")
        bundle = Bundle(self.encoders, self.head, clip, calibration, thresholds, self._card())
        save_bundle(bundle, self.run.path / "bundle")
        self.run.finish("calibrate", {"fitted_on": "validation", "thresholds": thresholds})

    def _card(self) -> dict[str, Any]:
        demo, table = self._demo_alone, self.manifest.table
        return {
            "name": self.config["name"] + ("-demo" if demo else ""),
            "licence": "Apache-2.0" if demo else "as the training data",
            "training_data": self.manifest.summary().splitlines(),
            "manifest_sha256": sha256_file(self.run.path / "manifest.csv"),
            "datasets": sorted(table["dataset"].dropna().unique().tolist()),
            "seed": self.config["seed"],
            "warnings": [DEMO_NOTE] if demo else [],
            "metrics": None,
        }

    # -- test -----------------------------------------------------------------------------------------------

    def test(self) -> None:
        """The only stage that reads the test split, once everything is chosen."""
        bundle = load_bundle(self.run.path / "bundle")
        table, frames = self._score(bundle, "test")
        part = self.run.path / ".scores.parquet.part"
        table.to_parquet(part)
        os.replace(part, self.run.path / "scores.parquet")
        thresholds = Thresholds(**bundle.thresholds["fused"])
        result = evaluate_scores(
            table, self.run.path, frames, thresholds=thresholds, seed=self.config["seed"]
        )
        plot_evaluation(table, result, self.run.path / "plots", thresholds)
        selected = {name: self.run.result(name) for name in (*self.modalities, "fusion", "calibrate")}
        failed = self.prepared.failures
        result["n_unreadable"] = int((failed["split"] == "test").sum())  # in no other number
        write_json(
            self.run.path / "metrics.json", {**result, "selected_on": "validation", "stages": selected}
        )
        card = {key: value for key, value in bundle.card.items() if key != "metrics"}
        clips = {name: entry["overall"] for name, entry in result["clips"].items()}
        save_bundle(
            replace(bundle, card={**card, "metrics": {"split": "test", "clips": clips}}),
            self.run.path / "bundle",
        )
        self.run.finish("test", {"clips": len(table)})

    def _score(self, bundle: Bundle, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Clip scores and frame logits of a split; unscored clips stay, with their reason."""
        rows = self.evidence.rows(split)
        logits = fused_logits(bundle.fusion, rows)
        table = self.evidence.table(split)[
            ["key", "label", "visual_label", "audio_label", "method", "source", "dataset", "kind"]
        ].reset_index(drop=True)
        scores = [
            calibrated_scores(bundle, {name: float(values[row]) for name, values in logits.items()})
            for row in range(len(rows))
        ]
        for name, column in (("fused", "score"), *((m, m) for m in self.modalities)):
            table[column] = [score[name] for score in scores]
            table[f"{column}_logit"] = logits[name]
        for name in self.modalities:
            table[f"{name}_reason"] = [row.reasons.get(name) for row in rows]
        frames = [
            {"key": key, "modality": modality, "logit": float(logit)}
            for key, row in zip(table["key"], rows, strict=True)
            for modality, logit in row.frame_logits()
        ]
        return table, pd.DataFrame(frames, columns=["key", "modality", "logit"])

    def summary(self) -> None:
        """The table at the end, and what to try next."""
        metrics = json.loads((self.run.path / "metrics.json").read_text())
        table = summary_table(metrics).round(3)
        self.say("\ntest split, read once; 95 % intervals by bootstrap over sources")
        self.say(table.to_string(index=False, na_rep="-"))
        if self._demo_alone:
            self.say(DEMO_NOTE)
        self.say(f"\nmetrics, scores and plots: {self.run.path}")
        self.say(f"try next:  avdetect predict --bundle {self.run.path / 'bundle'} YOUR_VIDEO.mp4")
