"""The test sets of an evaluation: which clips are judged, and what is known against the figures they will give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from avdetect.data import Manifest, read_format
from avdetect.data.manifest import SPLITS
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.guard import seen_in_training
from avdetect.inference import Bundle
from avdetect.weights import sha256_file

ALL = "all"


@dataclass
class TestSet:
    """The chosen clips of one manifest. warnings: sentences for the metrics and the page."""

    name: str
    path: Path
    manifest: Manifest
    warnings: list[str] = field(default_factory=list)

    __test__ = False  # no test, whatever the name says

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.name).strip("._") or "set"


def read_test_sets(paths: Sequence[str | Path], split: str = "test", seed: int = 0) -> list[TestSet]:
    """Manifests (or dataset folders) and the clips of `split` in them; a manifest without splits is taken whole.

    A set has the name of its dataset, or of its file where it holds several. Raises ConfigError for an unknown
    split, DataError where no clip is chosen, or two sets would be the same.
    """
    if split not in (*SPLITS, ALL):
        raise ConfigError(f"unknown split {split!r}: choose of {', '.join((*SPLITS, ALL))}")
    if not paths:
        raise ConfigError("there is nothing to evaluate on: name a manifest with --data")
    sets: list[TestSet] = []
    for path in map(Path, paths):
        manifest, warnings = _chosen(read_format("auto", path, seed=seed), path, split)
        datasets = manifest.table["dataset"].unique().tolist()
        taken = {other.slug.lower() for other in sets}
        stem = path.stem if path.is_file() else path.name
        names = [*(datasets if len(datasets) == 1 else []), stem, f"{path.absolute().parent.name} {stem}"]
        fresh = [name for name in names if TestSet(name, path, manifest).slug.lower() not in taken]
        if not fresh:
            raise DataError(f"{path} would be a second test set called {names[-1]!r}: rename the file")
        sets.append(TestSet(fresh[0], path, manifest, warnings))
    return sets


def grouping_columns(by: Sequence[str], table: pd.DataFrame, one: TestSet) -> list[str]:
    """The columns to group by; those that this manifest leaves empty are left out, with a warning."""
    unknown = [name for name in by if name not in table]
    if unknown:
        raise ConfigError(f"no manifest column is called {unknown[0]!r}: choose of {', '.join(table)}")
    known = [name for name in dict.fromkeys(by) if table[name].notna().any()]
    one.warnings += [
        f"no clip has a value of {name}: nothing is said by it" for name in by if name not in known
    ]
    return known


def _chosen(manifest: Manifest, path: Path, split: str) -> tuple[Manifest, list[str]]:
    splits = manifest.table["split"]
    if splits.isna().all():
        return manifest, [f"{path.name} has no splits: all its clips are judged"]
    if split == ALL:
        return manifest, [f"all splits of {path.name} are judged: this is no test where one was trained on"]
    chosen = manifest.where(f"split == {split!r}")
    if not len(chosen):
        counts = ", ".join(f"{n} {name}" for name, n in splits.value_counts().items())
        raise DataError(f"{path} has no clip in the split {split} (it has {counts}): choose another --split")
    if split != "test":
        return chosen, [f"the split {split} of {path.name} is judged: it is there to be learned or chosen on"]
    return chosen, []


def selected_on(card: dict[str, Any]) -> str:
    """On what epochs, calibration and thresholds of a detector were chosen, as its card says; never guessed."""
    return card.get("selected_on") or "not recorded on the detector's card"


def training_warnings(bundle: Bundle, tested: Manifest) -> list[str]:
    """What the detector has seen of a test set, from the manifest that it was trained on beside the bundle.

    Where that manifest is not there and the dataset has the name of one that was trained on, it says so.
    """
    beside = bundle.folder.absolute().parent / "manifest.csv"
    if beside.is_file() and sha256_file(beside) == bundle.card.get("manifest_sha256"):
        return seen_in_training(tested.table, Manifest.read(beside, check=False).table)
    both = sorted(set(tested.table["dataset"].unique()) & set(bundle.card.get("datasets") or []))
    if not both:
        return []
    return [
        f"the detector was trained on {', '.join(both)}, and its training manifest is not beside the bundle: "
        "whether these clips were among it cannot be told"
    ]
