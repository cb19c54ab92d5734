"""Cross-dataset tests: the finished detector of a run on test data that it has nothing to do with.

`data.cross: {NAME: root}`; of each dataset the test split is scored, or all of it where it has no splits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from avdetect.data import Manifest
from avdetect.data.prepare import prepare
from avdetect.evaluation import Thresholds
from avdetect.evaluation.plots import plot_matrix
from avdetect.inference.bundle import load_bundle
from avdetect.recipes.evidence_store import EvidenceStore
from avdetect.recipes.run_folder import write_json
from avdetect.recipes.scoring import score_split, write_scores
from avdetect.recipes.sources import read_roots

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

OWN = "its own test split"
SHOWN = ("roc_auc", "average_precision", "eer", "accuracy")


def run_cross(context: Context) -> None:
    """Score every dataset of `data.cross`, write `cross/NAME/` and the row of the matrix, `cross.csv`."""
    bundle = load_bundle(context.run.path / "bundle")
    own = json.loads((context.run.path / "metrics.json").read_text())["clips"]["fused"]["overall"]
    reports = {OWN: own}
    for name, root in context.config["data"]["cross"].items():
        manifest = _test_part(context, name, root)
        folder = context.prepared_folder(manifest)
        prepared = prepare(manifest, folder, context.clip_settings, workers=context.config["workers"])
        store = EvidenceStore(
            context.run.path / "evidence" / f"cross-{name}", prepared, bundle.encoders, context.say
        )
        target = context.run.path / "cross" / name
        manifest.write(target / "manifest.csv")
        result = write_scores(
            *score_split(store, bundle, "test"),
            target,
            Thresholds(**bundle.thresholds["fused"]),
            context.config["seed"],
        )
        unreadable = {"n_unreadable": len(prepared.failures)}
        write_json(
            target / "metrics.json",
            {**result, **unreadable, "selected_on": "validation of the training data"},
        )
        reports[name] = result["clips"]["fused"]["overall"]
    table = write_matrix({"fused": reports}, context.run.path)
    context.say("\ncross-dataset test; nothing was chosen on these data")
    context.say(table.round(3).to_string(index=False, na_rep="-"))
    context.run.finish("cross", {"reports": reports})


def write_matrix(reports: dict[str, dict[str, dict[str, Any]]], folder: Path) -> pd.DataFrame:
    """Write `cross.csv` and `plots/cross.png` of model -> test set -> `binary_report`, and return the table."""
    rows = [
        {"model": model, "test": name, "n": report["n"], "n_fake": report["n_fake"]}
        | {metric: report[metric]["value"] for metric in SHOWN}
        | {"roc_auc_low": report["roc_auc"]["low"], "roc_auc_high": report["roc_auc"]["high"]}
        for model, tests in reports.items()
        for name, report in tests.items()
    ]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "cross.csv", index=False)
    plot_matrix(reports, folder / "plots" / "cross.png")
    return table


def _test_part(context: Context, name: str, root: Any) -> Manifest:
    manifest = read_roots(root, context.config, context.config["data"].get("cross_where"), context.say)
    if manifest.table["split"].eq("test").any():
        manifest = manifest.where("split == 'test'")
    else:
        context.say(f"cross  {name} has no test split: all of it is scored")
    return Manifest(manifest.table.assign(split="test"), name=name)
