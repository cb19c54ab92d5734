"""Stages of a recipe that learns from genuine footage: networks that make fakes, and manipulated copies of clips.

In the run folder: `generators/visual`, `generators/audio`, and per split `pseudo/SPLIT/*.npz` with the manifest
`pseudo/SPLIT.csv`, which is written once all its copies are there. Copies are for the fusion head, the
calibration and the test; the encoders learn from fakes made on the fly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from avdetect.data import Manifest, PreparedSet
from avdetect.data.pseudo.clips import plan_copies, with_copies, write_copies
from avdetect.errors import ConfigError, DataError
from avdetect.training.face_generator import fit_face_generators
from avdetect.training.voice_generator import fit_voice_generators

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

PARTS = {"visual": "face", "audio": "voice"}  # modalities whose fakes networks help to make
FITS = {"visual": fit_face_generators, "audio": fit_voice_generators}
NEEDS = {"visual": "shows a face", "audio": "has sound", "lipsync": "shows a talking face"}
SAY_EVERY = 100


def require_genuine(table: pd.DataFrame, name: str) -> None:
    """Raise DataError where a manifest has no genuine clip in train or in val."""
    for split in ("train", "val"):
        if not (table["split"].eq(split) & table["label"].eq(0)).any():
            raise DataError(
                f"{name} has no genuine clip in its {split} split: fakes are made of genuine footage (label 0), so "
                "give some, of several people or recordings where splits are not named"
            )


def check_material(prepared: PreparedSet, modalities: list[str]) -> None:
    """Raise DataError where train or val has no genuine clip for a modality."""
    for split in ("train", "val"):
        for name in modalities:
            rows = prepared.rows(name, split)
            if not (rows["truth"] == 0).any():
                raise DataError(
                    f"no genuine clip of the {split} split {NEEDS[name]}: add footage that does, or take {name} "
                    f"out of modalities (what was found in each clip stands in {prepared.folder / 'prepared.csv'})"
                )


def make_generators(context: Context) -> None:
    """Train the networks that make fakes, except those that trained folders are given for."""
    check_material(context.prepared, context.modalities)
    result: dict[str, Any] = {}
    for name in (name for name in PARTS if name in context.modalities):
        given, settings = context.config["generators"][name], _settings(context, name)
        if given is not None:
            result[name] = {"folder": str(_checked(name, given)), "note": "trained before"}
        elif settings is None:
            result[name] = {"folder": None, "note": "none: fakes are made without networks"}
        else:
            folder = context.run.path / "generators" / name
            FITS[name](context.prepared, {"seed": context.config["seed"], **settings}, folder, context.say)
            result[name] = {"folder": str(folder)}
    context.run.finish("generators", result)


def generator_folder(context: Context, modality: str) -> Path | None:
    """Where the networks that make fakes of a modality are; None where there are none.

    Raises ConfigError where they were to be trained and the stage has not run.
    """
    given = context.config["generators"][modality]
    if given is not None:
        return _checked(modality, given)
    if _settings(context, modality) is None:
        return None
    if context.run.result("generators") is None:
        raise ConfigError("the generators stage has not run in this folder: add it to stages")
    return context.run.path / "generators" / modality


def with_generators(context: Context, modality: str, train: dict[str, Any]) -> dict[str, Any]:
    """Settings of an encoder's training that name the folder of the networks which make its fakes."""
    pseudo = train.get("pseudo")
    if (
        not context.config.get("generators")
        or modality not in PARTS
        or not pseudo
        or pseudo.get("generators")
    ):
        return train
    folder = generator_folder(context, modality)
    return train | {"pseudo": pseudo | {"generators": folder and str(folder)}}


def make_copies(context: Context, split: str) -> Manifest:
    """Make the manipulated copies of a split, or go on making them, and write their manifest."""
    path = context.run.path / "pseudo" / f"{split}.csv"
    if path.exists():
        return Manifest.read(path)
    prepared, seed = context.prepared, context.config["seed"]
    folders = {part: None for part in PARTS.values()}
    folders |= {PARTS[m]: generator_folder(context, m) for m in PARTS if m in context.modalities}
    rows = prepared.rows("clip", split)
    count = context.config["pseudo"][split]
    trained = [part for part, folder in folders.items() if folder is not None]
    plan = plan_copies(rows[rows["truth"] == 0], context.modalities, count, seed, trained)

    def report(done: int, total: int) -> None:
        if done % SAY_EVERY == 0 or done == total:
            context.say(f"pseudo  {split}  {done} of {total} copies")

    write_copies(prepared, plan, path.with_suffix(""), seed, folders, context.config["workers"], report)
    plan.write(path)
    return plan


def with_made_copies(context: Context) -> PreparedSet:
    """The prepared set and the copies of those splits that are finished."""
    folder = context.run.path / "pseudo"
    found = {split: folder / f"{split}.csv" for split in ("train", "val", "test")}
    plans = {folder / split: Manifest.read(path) for split, path in found.items() if path.exists()}
    return with_copies(context.prepared, plans)


def _settings(context: Context, modality: str) -> dict[str, Any] | None:
    return (context.config["train"].get("generators") or {}).get(modality)


def _checked(modality: str, folder: str) -> Path:
    if not Path(folder).is_dir():
        raise ConfigError(
            f"generators.{modality} is {folder}, which is no folder: name one that a generators stage made "
            "(RUN/generators/visual or RUN/generators/audio), or null to train them"
        )
    return Path(folder).resolve()
