"""What each stage of a recipe does; `pipeline.py` says in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from avdetect.data import Manifest, require_both_classes
from avdetect.data.formats.dfdc import DEMO_DATASET
from avdetect.data.guard import open_test_data
from avdetect.data.prepare import PreparedSet, prepare
from avdetect.encoders import Encoder, load_encoder, save_encoder
from avdetect.errors import ConfigError
from avdetect.evaluation import (
    Thresholds,
    choose_thresholds,
    fit_calibration,
    plot_learning_curves,
    summary_table,
)
from avdetect.fusion import FusionHead
from avdetect.inference.bundle import Bundle, load_bundle, save_bundle
from avdetect.inference.scoring import fused_logits
from avdetect.media import ClipSettings
from avdetect.recipes.analyses import run_analyses
from avdetect.recipes.cross import run_cross
from avdetect.recipes.encoders import fit_encoder, fit_settings, fitted, start_encoder
from avdetect.recipes.evidence_store import EvidenceStore
from avdetect.recipes.novelty_stage import NoveltySettings, add_novelty
from avdetect.recipes.pseudo_stage import (
    make_copies,
    make_generators,
    require_genuine,
    with_generators,
    with_made_copies,
)
from avdetect.recipes.run_folder import RunFolder, write_json
from avdetect.recipes.scoring import fused_pairs, known, score_split, verdict_scores, write_scores
from avdetect.recipes.sources import audit_flags, is_demo, read_roots, with_splits
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
        manifest = read_roots(data["root"], self.config, data["where"], self.say)
        fractions = dict(zip(("train", "val", "test"), data["fractions"], strict=True))
        manifest = with_splits(manifest, fractions, self.config["seed"], data.get("split") == "own", self.say)
        if any(stage in self.config["stages"] for stage in (*self.modalities, "fusion")):
            # now, not after hours of preparing
            if self.makes_fakes:
                require_genuine(manifest.table, manifest.name)
            else:
                require_both_classes(manifest.table, "clip", manifest.name)
        for line in manifest.summary().splitlines():
            self.say(f"found  {line}")
        manifest.write(self.run.path / "manifest.csv")
        roots = data["root"] if isinstance(data["root"], list) else [data["root"]]
        self.run.finish("index", {"clips": len(manifest), "demo": all(is_demo(root) for root in roots)})

    @property
    def _demo_alone(self) -> bool:
        """Whether nothing but drawn faces was learnt from: asked for, or found in a folder of the demo set."""
        asked = (self.run.result("index") or {}).get("demo", False)
        return asked or set(self.manifest.table["dataset"]) == {DEMO_DATASET}

    @cached_property
    def manifest(self) -> Manifest:
        path = self.run.path / "manifest.csv"
        if not path.exists():
            raise ConfigError("the index stage has not run in this folder: add it to stages")
        return Manifest.read(path)

    @cached_property
    def clip_settings(self) -> ClipSettings:
        return ClipSettings(**self.config["clip"], crop_size=self.config["encoder"]["visual"]["crop_size"])

    def prepared_folder(self, manifest: Manifest) -> Path:
        """One folder per set of clips and settings, so that runs share it."""
        keys = "\n".join(sorted(manifest.table["root"] + "/" + manifest.table["path"]))
        what = json.dumps(self.clip_settings.to_dict(), sort_keys=True) + keys
        return (
            Path(self.config["data"]["work_dir"])
            / f"prepared-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
        )

    def prepare(self) -> None:
        folder = self.prepared_folder(self.manifest)
        prepared = prepare(self.manifest, folder, self.clip_settings, workers=self.config["workers"])
        counts = prepared.table["status"].value_counts()
        self.run.finish("prepare", {"folder": str(folder), **{k: int(v) for k, v in counts.items()}})

    @cached_property
    def prepared(self) -> PreparedSet:
        return PreparedSet.open(self.prepared_folder(self.manifest), self.manifest)

    # -- pseudo-fakes ---------------------------------------------------------------------------------------

    @property
    def makes_fakes(self) -> bool:
        """Whether this recipe makes fakes of genuine clips, so that the data need not hold any."""
        return self.config.get("pseudo") is not None

    def generators(self) -> None:
        """Train the networks that make fakes."""
        make_generators(self)

    def pseudo(self) -> None:
        """Manipulated copies of train and val clips; those of test are made when it is opened."""
        made = {split: len(make_copies(self, split)) for split in ("train", "val")}
        self.run.finish("pseudo", made)

    @property
    def judged(self) -> PreparedSet:
        """What fusion, calibration and test work on: the prepared clips and the copies made of them so far."""
        return with_made_copies(self) if self.makes_fakes else self.prepared

    # -- encoders -------------------------------------------------------------------------------------------

    def train_encoder(self, modality: str) -> None:
        """Train one encoder and keep its best weights."""
        config, train = self.config["encoder"][modality], self.config["train"][modality]
        seed, folders = self.config["seed"], self.run.checkpoints
        train = with_generators(self, modality, train)
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
        if self.makes_fakes and self.run.result("pseudo") is None:
            raise ConfigError("the pseudo stage has not run in this folder: add it to stages")
        return EvidenceStore(self.run.path / "evidence", self.judged, self.encoders, self.say)

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

    def fused_logits(self, split: str) -> np.ndarray:
        """Fused logits (N,) of a split before calibration; NaN where nothing could be judged."""
        return fused_logits(self.head, self.evidence.rows(split))["fused"]

    def calibrate(self) -> None:
        """Probabilities and thresholds from the validation clips, per modality and fused."""
        rate = self.config["train"]["max_false_positive_rate"]
        method = self.config["train"]["calibration"] or "platt"
        truths, logits = self.evidence.truths("val"), fused_logits(self.head, self.evidence.rows("val"))
        pairs = {name: (truths[name], logits[name]) for name in self.modalities}
        pairs["fused"] = fused_pairs(truths["fused"], logits)
        if "lipsync" in pairs:
            pairs["lipsync"] = self.evidence.sync_pairs("val")
        pairs = {name: known(*pair) for name, pair in pairs.items()}
        calibration = {name: fit_calibration(method, *pair) for name, pair in pairs.items()}
        if self.makes_fakes:  # how many copies are made of a genuine clip says nothing of the world
            calibration = {name: fit.at_even_odds() for name, fit in calibration.items()}
        # A user's pictures are searched for faces even where those of the data were face crops already.
        clip = replace(self.clip_settings, pictures="search")
        bundle = Bundle(self.encoders, self.head, clip, calibration, {}, self._card())
        scores = {name: (truth, calibration[name](logit)) for name, (truth, logit) in pairs.items()}
        # The band is that of verdicts, so it is found on scores as verdicts have them.
        scores["fused"] = known(truths["fused"], verdict_scores(bundle, logits))
        for name, (truth, score) in scores.items():
            band = choose_thresholds(truth, score, max_fpr=rate)
            bundle.thresholds[name] = band._asdict()
            self.say(f"calibrate  {name}  real below {band.real_below:.2f}, fake above {band.fake_above:.2f}")
        if self.config["train"].get("novelty"):
            limits = NoveltySettings.from_dict(self.config["train"]["novelty"])
            add_novelty(bundle, self.evidence, limits, self.config["seed"], self.say)
        save_bundle(bundle, self.run.path / "bundle")
        self.run.finish(
            "calibrate", {"fitted_on": "validation", "method": method, "thresholds": bundle.thresholds}
        )

    def _card(self) -> dict[str, Any]:
        demo, table = self._demo_alone, self.manifest.table
        return {
            "name": self.config["name"] + ("-demo" if demo else ""),
            "licence": "Apache-2.0" if demo else "as the training data",
            "training_data": self.manifest.where("split in ['train', 'val']").summary().splitlines(),
            "manifest_sha256": sha256_file(self.run.path / "manifest.csv"),
            "datasets": sorted(table["dataset"].dropna().unique().tolist()),
            "seed": self.config["seed"],
            "selected_on": "validation",
            "warnings": [DEMO_NOTE] if demo else [],
            "metrics": None,
        }

    # -- test -----------------------------------------------------------------------------------------------

    @open_test_data()
    def test(self) -> None:
        """The only stage that reads the test split, once everything is chosen."""
        bundle = load_bundle(self.run.path / "bundle")
        if self.makes_fakes:
            make_copies(self, "test")
            self.__dict__.pop("evidence", None)  # it was opened before these were there
        table, frames = score_split(self.evidence, bundle, "test")
        thresholds = Thresholds(**bundle.thresholds["fused"])
        result = write_scores(table, frames, self.run.path, thresholds, self.config["seed"])
        if epochs := self.history.rows():
            plot_learning_curves(epochs, self.run.path / "plots" / "learning_curves.png", self.config["name"])
        selected = {name: self.run.result(name) for name in (*self.modalities, "fusion", "calibrate")}
        failed = self.prepared.failures
        result["warnings"] += audit_flags(self.config["data"]["root"])
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

    @open_test_data()
    def analyse(self) -> None:
        """What the recipe asks for beside the common metrics; reads the finished test scores."""
        run_analyses(self)

    @open_test_data()
    def cross(self) -> None:
        """The finished detector on other datasets."""
        run_cross(self)

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
