"""A detector on disk: a folder of safetensors and one `card.json` that says everything else.

bundle/card.json            encoders and settings, how media is read, calibration, thresholds, data, metrics
bundle/visual.safetensors   one file per encoder
bundle/fusion.safetensors
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from avdetect import __version__
from avdetect.encoders import Encoder, load_encoder, save_encoder
from avdetect.errors import WeightsError
from avdetect.evaluation import Calibration
from avdetect.evidence import MODALITIES
from avdetect.fusion import FusionHead
from avdetect.media import ClipSettings
from avdetect.weights import read_state, sha256_file, write_safetensors

SCHEMA = "avdetect.bundle/1"
ENVIRONMENT = "AVDETECT_BUNDLE"
HOW_TO_GET_ONE = "train one with `python -m avdetect.recipes.dfdc_fusion`, or name one with --bundle FOLDER"


@dataclass
class Bundle:
    """Everything that a detector needs.

    calibration: by modality and "fused"; thresholds: by modality and "fused", each {"real_below", "fake_above"}
    on the calibrated score; card: training data, metrics, licence and the like, as written to `card.json`.
    """

    encoders: dict[str, Encoder]
    fusion: FusionHead
    clip: ClipSettings
    calibration: dict[str, Calibration]
    thresholds: dict[str, dict[str, float]]
    card: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle; a folder that is there is replaced only when the new one is complete."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    encoders = {}
    for modality, encoder in bundle.encoders.items():
        file = f"{modality}.safetensors"
        save_encoder(encoder, temporary / file)
        encoders[modality] = {
            "name": encoder.name,
            "settings": encoder.settings,
            "preprocess": encoder.preprocess.to_dict(),
            "file": file,
            "sha256": sha256_file(temporary / file),
        }
    write_safetensors(bundle.fusion.state_dict(), temporary / "fusion.safetensors", {"name": "fusion"})
    card = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "avdetect_version": __version__,
        **bundle.card,
        "clip": bundle.clip.to_dict(),
        "encoders": encoders,
        "fusion": {
            "settings": bundle.fusion.settings,
            "file": "fusion.safetensors",
            "sha256": sha256_file(temporary / "fusion.safetensors"),
        },
        "calibration": {name: calibration.to_dict() for name, calibration in bundle.calibration.items()},
        "thresholds": bundle.thresholds,
    }
    (temporary / "card.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check every file against its SHA-256. Raises WeightsError in one sentence."""
    folder = Path(folder)
    card = _read_card(folder)
    try:
        encoders = {
            modality: load_encoder(_checked(folder, entry), entry["name"], entry["settings"])
            for modality, entry in card["encoders"].items()
        }
        settings = card["fusion"]["settings"]
        dims = {name: tuple(size) for name, size in settings["dims"].items()}
        fusion = FusionHead(dims, settings["hidden"], settings["dropout"])
        state = read_state(_checked(folder, card["fusion"]))
        fusion.load_state_dict(state)
        return Bundle(
            encoders={name: encoders[name].eval() for name in MODALITIES if name in encoders},
            fusion=fusion.eval(),
            clip=ClipSettings.from_dict(card["clip"]),
            calibration={name: Calibration.from_dict(value) for name, value in card["calibration"].items()},
            thresholds=card["thresholds"],
            card=card,
            folder=folder,
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{folder / 'card.json'} does not describe a detector ({error}): {HOW_TO_GET_ONE}"
        ) from error


def clip_settings_of(folder: str | Path) -> ClipSettings:
    """How a bundle wants media to be read, from its card alone. Raises WeightsError as `load_bundle` does."""
    card = _read_card(Path(folder))
    if "clip" not in card:
        raise WeightsError(f"{Path(folder) / 'card.json'} does not say how media is read: {HOW_TO_GET_ONE}")
    return ClipSettings.from_dict(card["clip"])


def find_bundle(named: str | Path | None = None) -> Path:
    """The bundle to use: the named one, `$AVDETECT_BUNDLE`, or the newest below ./runs."""
    if named is not None:
        return Path(named)
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    cards = sorted(Path("runs").glob("*/*/bundle/card.json"), key=lambda path: path.stat().st_mtime)
    if not cards:
        raise WeightsError(
            f"no trained detector is here (looked in ./runs and ${ENVIRONMENT}): {HOW_TO_GET_ONE}"
        )
    return cards[-1].parent


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / "card.json"
    if not path.is_file():
        raise WeightsError(f"{folder} is not a detector bundle (no card.json): {HOW_TO_GET_ONE}")
    try:
        card = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON ({error}): copy or train the bundle again") from error
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise WeightsError(
            f"{path} is not of schema {SCHEMA}: it was made by another version, train it again"
        )
    return card


def _checked(folder: Path, entry: dict[str, Any]) -> Path:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise WeightsError(f"{folder} lacks {path.name}: copy or train the bundle again")
    if sha256_file(path) != entry["sha256"]:
        raise WeightsError(f"{path} is not the file that its card describes (SHA-256 differs): copy it again")
    return path
