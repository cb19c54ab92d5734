"""The table "what it must show" of `genuine_only` for one detector: `python -m avdetect.recipes.genuine_report`.

    python -m avdetect.recipes.genuine_report data.root=MANIFEST bundle=FOLDER split=val out=FOLDER

It measures and chooses nothing. `split=test` opens the test split: once, when all is chosen. In `out`:
`report.json` (every figure with all that stands beside it), `report.md` (the table), `clips.parquet` (a row a
clip), `records.jsonl` (what a killed report goes on from) and `plots/`. See recipes/genuine_only/README.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avdetect.data.guard import TEST, open_test_data
from avdetect.errors import AvdetectError, ConfigError
from avdetect.inference import Bundle, find_bundle, load_bundle
from avdetect.recipes.genuine.context import Context, Row, judge_all, row
from avdetect.recipes.genuine.curves import plot_runs, read_run
from avdetect.recipes.genuine.engine import Record, Task, ToolPaths, run_tasks
from avdetect.recipes.genuine.face import face_rows, pseudo_face_rows
from avdetect.recipes.genuine.figures import RESAMPLES, no_figure
from avdetect.recipes.genuine.fusion import fusion_rows
from avdetect.recipes.genuine.lips import lip_rows
from avdetect.recipes.genuine.material import Material, read_material
from avdetect.recipes.genuine.table import markdown
from avdetect.recipes.genuine.verdicts import calibration_rows, label_rows
from avdetect.recipes.genuine.voice import voice_rows
from avdetect.recipes.run_folder import environment, write_json
from avdetect.scan.clip_scores import detector_hash
from avdetect.scan.test_sets import training_warnings

SCHEMA = "avdetect.genuine_report/1"
Say = Callable[[str], None]

PARTS: dict[str, Callable[[Context], list[Row]]] = {
    "lipsync": lip_rows,
    "voice": voice_rows,
    "face": face_rows,
    "pseudo_face": pseudo_face_rows,
    "fusion": fusion_rows,
    "labels": label_rows,
    "calibration": calibration_rows,
}
TITLES = {
    "lipsync": "Lip-sync", "voice": "Voice", "face": "Face: labelled sources", "pseudo_face": "Face: pseudo-fakes",
    "fusion": "Fusion", "labels": "Verdicts", "calibration": "Calibration", "speed": "Speed",
    "curves": "Learning curves",
}  # fmt: skip


@dataclass
class DataSettings:
    root: str = MISSING  # manifest, or folder of a dataset
    where: str | None = None  # pandas query on the manifest's columns
    face_crops: list[str] = field(
        default_factory=lambda: ["DFDC faces", "MesoNet"]
    )  # pictures that are crops
    swaps: list[str] = field(
        default_factory=lambda: ["DFDC faces"]
    )  # datasets that the goal for swaps is about


@dataclass
class Settings:
    data: DataSettings = field(default_factory=DataSettings)
    bundle: str = MISSING  # folder, `builtin` or `latest`
    split: str = "val"
    out: str = MISSING
    prepared: list[str] = field(default_factory=list)  # folders of prepared clips that may be read
    weights: str | None = None  # folder of AASIST.pth, Meso4_DF.h5, … as published; null: nothing beside
    generators: str | None = None  # generators folder of a run; null: only pseudo-fakes that need none
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    items: int = 80  # clips at most of which manipulated copies are made, per part and dataset
    speed: str | None = None  # JSON of benchmarks/verdict_speed.py
    runs: list[str] = field(default_factory=list)  # run folders for the learning curves
    workers: int = 2
    seed: int = 0


def settings_of(arguments: Sequence[str]) -> Settings:
    """`key=value` arguments over the defaults; ConfigError where one is unknown, of the wrong type or missing."""
    wrong = [text for text in arguments if "=" not in text]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no setting: write key=value, as split=val")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Settings), OmegaConf.from_dotlist(list(arguments)))
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} has no value: give {missing[0]}=…")
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"a setting is wrong: {str(error).splitlines()[0]}") from error
    unknown = [name for name in settings.parts if name not in PARTS]
    if unknown:
        raise ConfigError(f"unknown part {unknown[0]!r}: choose of {', '.join(PARTS)}")
    return settings


def make_report(settings: Settings, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure everything, write it into `settings.out`, and return what `report.json` holds."""
    with open_test_data() if settings.split == TEST else nullcontext():
        return _measure(settings, say)


def _measure(settings: Settings, say: Say) -> dict[str, Any]:
    started, out = time.perf_counter(), Path(settings.out)
    folder = find_bundle(settings.bundle)
    bundle = load_bundle(folder)
    data = settings.data
    material = read_material(
        data.root, data.where, settings.split, data.face_crops, bundle.clip, settings.prepared,
        out / "prepared", settings.workers, say,
    )  # fmt: skip
    say(f"{len(material.table)} clips, {len(material.failed)} unreadable")
    paths = ToolPaths(str(folder), settings.weights, settings.generators)
    errors: list[str] = []

    def run(tasks: Sequence[Task]) -> list[Record]:
        records = run_tasks(tasks, paths, out / "records.jsonl", settings.workers, say)
        errors.extend(record["error"] for record in records if "error" in record)
        return records

    clips = judge_all(material, run, settings.items, settings.seed)
    _write_clips(clips, out / "clips.parquet")
    context = Context(
        material, bundle, clips, run, settings.items, settings.seed, settings.generators, tuple(data.swaps)
    )
    parts = {}
    for name in settings.parts:
        say(f"part {name}")
        parts[TITLES[name]] = PARTS[name](context)
    parts[TITLES["speed"]] = [] if settings.speed is None else speed_rows(Path(settings.speed))
    parts[TITLES["curves"]] = _curve_rows([Path(run) for run in settings.runs], out / "plots")
    report = {
        "schema": SCHEMA,
        "about": _about(settings, bundle, material, time.perf_counter() - started),
        "parts": parts,
        "notes": _notes(bundle, material, errors),
    }
    write_json(out / "report.json", report)
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    return report


def _write_clips(clips: pd.DataFrame, path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    clips.to_parquet(part)
    part.replace(path)


def _about(settings: Settings, bundle: Bundle, material: Material, seconds: float) -> dict[str, Any]:
    return {
        "bundle": bundle.card.get("name"),
        "sha256": detector_hash(bundle),
        "split": settings.split,
        "clips": len(material.table),
        "failed": len(material.failed),
        "by_dataset": {str(k): int(n) for k, n in material.table["dataset"].value_counts().items()},
        "seed": settings.seed,
        "resamples": RESAMPLES,
        "items": settings.items,
        "seconds": round(seconds, 1),
        "environment": environment(),
    }


def _notes(bundle: Bundle, material: Material, errors: list[str]) -> list[str]:
    """What must be known to read the figures: clips that were lost, and what the detector had seen."""
    notes = [f"{row['key']}: {row['reason']}" for _, row in material.failed.head(20).iterrows()]
    if errors:
        notes.append(f"{len(errors)} pieces of work failed and are in no figure, such as: {errors[0]}")
    return notes + training_warnings(bundle, material.manifest())


def speed_rows(path: Path) -> list[Row]:
    """The line of the speed, from what `benchmarks/verdict_speed.py` wrote; ConfigError for another file."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        ratio, before, after = told["ratio"], told["before_s"], told["after_s"]
        figure = no_figure("") | {
            "value": ratio["value"], "low": ratio["low"], "high": ratio["high"], "n": told["rounds"], "reason": None
        }  # fmt: skip
        said = f"median {after:.2f} s against {before:.2f} s, {told['threads']} threads"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no result of benchmarks/verdict_speed.py ({error}): run that first"
        ) from error
    return [
        row("verdict time of a 10 s 1080p clip, as a ratio to the detector before", figure, ("<=", 1.0), said)
    ]


def _curve_rows(folders: list[Path], plots: Path) -> list[Row]:
    """The best validation AUC of every run, and a picture of all in `plots/learning_curves.png`."""
    runs = [read_run(folder, "visual") for folder in folders]
    if runs:
        plot_runs(runs, plots / "learning_curves.png", "Face encoder: validation AUC over runs")
    return [
        row(
            f"face, validation AUC, run {run['run']}",
            no_figure("", len(run["epochs"])) | {"value": run["best"], "reason": None},
            None,
            f"epoch {run['best_epoch']}, {run['parameters']} parameters, {run['train_clips']} training clips",
            **run,
        )
        for run in runs
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the report; an error that the user can mend is one sentence, and the exit status 1."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        settings = settings_of(sys.argv[1:] if arguments is None else arguments)
        report = make_report(settings, say)
    except AvdetectError as error:
        print(f"genuine_report: {error}", file=sys.stderr)
        sys.exit(1)
    print(markdown(report))
    say(f"finished in {report['about']['seconds']} s: {settings.out}")


if __name__ == "__main__":
    main()
