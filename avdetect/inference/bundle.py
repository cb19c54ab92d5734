"""A detector on disk: a folder of safetensors and one `card.json` that says everything else.

bundle/card.json            encoders and settings, how media is read, calibration, thresholds, data, metrics
bundle/visual.safetensors   one file per encoder
bundle/fusion.safetensors
bundle/novelty.safetensors  what it was made for, where that was measured (`inference.novelty`)
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from avdetect import __version__
from avdetect.encoders import Encoder, load_encoder, save_encoder
from avdetect.errors import WeightsError
from avdetect.evaluation import Calibration
from avdetect.evidence import MODALITIES
from avdetect.fusion import FusionHead
from avdetect.inference.card import HOW_TO_GET_ONE, SCHEMA, read_card
from avdetect.inference.novelty import Novelty
from avdetect.media import ClipSettings
from avdetect.weights import read_state, sha256_file, write_safetensors


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
    novelty: Novelty | None = None  # None: everything is judged


def save_bundle(bundle: Bundle, folder: Path, half: bool = False, at_most: int | None = None) -> None:
    """Write a bundle; a folder that is there is replaced only when the new one is complete.

    half: encoders' weights as float16 where that holds them (`weights.in_half_precision`), read back as float32.
    at_most: bytes of all files together; raises WeightsError, and writes nothing, where it takes more.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(bundle, temporary, half)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        if at_most is not None and size > at_most:
            raise WeightsError(
                f"the detector takes {size / 1e6:.1f} MB and may take {at_most / 1e6:.0f} MB: train smaller encoders"
            )
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(bundle: Bundle, folder: Path, half: bool) -> None:
    encoders = {}
    for modality, encoder in bundle.encoders.items():
        file = f"{modality}.safetensors"
        save_encoder(encoder, folder / file, half)
        encoders[modality] = {
            "name": encoder.name,
            "settings": encoder.settings,
            "preprocess": encoder.preprocess.to_dict(),
            "file": file,
            "sha256": sha256_file(folder / file),
        }
    write_safetensors(bundle.fusion.state_dict(), folder / "fusion.safetensors", {"name": "fusion"})
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
            "sha256": sha256_file(folder / "fusion.safetensors"),
        },
        "calibration": {name: calibration.to_dict() for name, calibration in bundle.calibration.items()},
        "thresholds": bundle.thresholds,
    }
    if bundle.novelty is not None:
        card["novelty"] = {**card.get("novelty", {}), **_write_novelty(bundle.novelty, folder)}
    (folder / "card.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n")


def _write_novelty(novelty: Novelty, folder: Path) -> dict[str, Any]:
    file = "novelty.safetensors"
    arrays = {name: torch.from_numpy(array) for name, array in novelty.arrays().items()}
    write_safetensors(arrays, folder / file, {"name": "novelty"})
    return {"file": file, "sha256": sha256_file(folder / file), **novelty.limits()}


def _read_novelty(folder: Path, card: dict[str, Any]) -> Novelty | None:
    entry = card.get("novelty")
    if entry is None:
        return None
    state = read_state(_checked(folder, entry))
    return Novelty.restore({name: value.numpy() for name, value in state.items()}, entry)


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check every file against its SHA-256. Raises WeightsError in one sentence."""
    folder = Path(folder)
    card = read_card(folder)
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
            novelty=_read_novelty(folder, card),
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{folder / 'card.json'} does not describe a detector ({error}): {HOW_TO_GET_ONE}"
        ) from error


def clip_settings_of(folder: str | Path) -> ClipSettings:
    """How a bundle wants media to be read, from its card alone. Raises WeightsError as `load_bundle` does."""
    card = read_card(Path(folder))
    if "clip" not in card:
        raise WeightsError(f"{Path(folder) / 'card.json'} does not say how media is read: {HOW_TO_GET_ONE}")
    return ClipSettings.from_dict(card["clip"])


def _checked(folder: Path, entry: dict[str, Any]) -> Path:
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise WeightsError(f"{folder} lacks {path.name}: copy or train the bundle again")
    if sha256_file(path) != entry["sha256"]:
        raise WeightsError(f"{path} is not the file that its card describes (SHA-256 differs): copy it again")
    return path
