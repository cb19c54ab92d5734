"""From the bundle of a run to one that is handed out: half the size, and a card that hides nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from avdetect.errors import ConfigError, WeightsError
from avdetect.inference.bundle import Bundle, load_bundle, save_bundle
from avdetect.weights import in_half_precision, load_strict

MOST_BYTES = 20_000_000
TEXTS = ("name", "licence", "terms")  # terms: what the licence means for who uses the weights
# Lists of sentences. training: the commands, with their seeds; warnings: what every verdict says of these weights.
LISTS = ("data", "training", "known_failures", "warnings")
# of an entry of `measured`; low and high are its 95 % interval
MEASURED = ("what", "clips", "value", "low", "high")


@dataclass(frozen=True)
class Packed:
    """What came of it. logit_change: by modality, the largest change of a logit by rounding, see `logit_changes`."""

    folder: Path
    size_bytes: int
    logit_change: dict[str, float]


def pack_bundle(source: str | Path, folder: str | Path, card_file: str | Path) -> Packed:
    """Write the bundle of a run to a folder with half-precision weights and the card of a release.

    card_file: YAML with `TEXTS`, `LISTS`, and if wanted `measured`, over what the run has put on the card; warnings
    are added to the run's. Raises WeightsError for a bundle that was not tested or takes more than `MOST_BYTES`,
    ConfigError for a card file that leaves something out.
    """
    said = read_release(card_file)
    bundle, folder = load_bundle(source), Path(folder)
    if not bundle.card.get("metrics"):
        raise WeightsError(f"{source} was not measured: run the recipe's test stage before it is released")
    warnings = [*bundle.card.get("warnings", []), *said["warnings"]]
    card = {**bundle.card, **said, "warnings": list(dict.fromkeys(warnings))}
    changes = logit_changes(bundle)
    save_bundle(
        replace(bundle, card={**card, "logit_change": changes}), folder, half=True, at_most=MOST_BYTES
    )
    return Packed(folder, sum(file.stat().st_size for file in folder.iterdir()), changes)


@torch.inference_mode()
def logit_changes(bundle: Bundle, inputs: int = 8, seed: int = 0) -> dict[str, float]:
    """By modality, the largest absolute change of the encoder's logit on random inputs when its weights are halved."""
    changes = {}
    for modality, encoder in bundle.encoders.items():
        rounded = copy.deepcopy(encoder)
        load_strict(rounded, in_half_precision(encoder.state_dict()), f"the {modality} encoder")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            examples = encoder.example_inputs(inputs)
        changes[modality] = float((rounded(*examples) - encoder(*examples)).abs().max())
    return changes


def read_release(path: str | Path) -> dict[str, Any]:
    """The card file of a release, checked. Raises ConfigError that names the first fault."""
    path = Path(path)
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a card ({error}): name a YAML file") from error
    if fault := _fault(said):
        raise ConfigError(f"{path} is no card of a release: {fault}")
    return said


def _fault(said: Any) -> str | None:
    """What is wrong with the content of a card file, if anything is."""
    if not isinstance(said, Mapping):
        return "it must hold names and values"
    known = (*TEXTS, *LISTS, "measured")
    if unknown := [name for name in said if name not in known]:
        return f"it has {unknown[0]!r}, which is none of {', '.join(known)}"
    for name in TEXTS:
        if not _is_text(said.get(name)):
            return f"{name} must be a sentence"
    for name in LISTS:
        values = said.get(name)
        if not isinstance(values, list) or not values or not all(map(_is_text, values)):
            return f"{name} must be a list of sentences"
    rows = said.get("measured", [])
    if not isinstance(rows, list) or not all(map(_is_measured, rows)):
        return f"every entry of measured needs {', '.join(MEASURED)}, with low <= value <= high"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_measured(row: Any) -> bool:
    if not isinstance(row, Mapping) or set(row) != set(MEASURED):
        return False
    numbers = [row["low"], row["value"], row["high"]]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    return plain and numbers == sorted(numbers) and _is_text(row["what"]) and _is_text(row["clips"])
