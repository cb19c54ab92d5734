"""Where detectors are found, and reading the `card.json` that says all but the weights; imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avdetect.errors import WeightsError

SCHEMA = "avdetect.bundle/1"
ENVIRONMENT = "AVDETECT_BUNDLE"
BUILTIN, LATEST = "builtin", "latest"
BUILTIN_FOLDER = Path(__file__).resolve().parents[1] / "weights" / "builtin"
HOW_TO_GET_ONE = (
    "name none to use the built-in detector, train one with `python -m avdetect.recipes.dfdc_fusion`, or name the "
    "folder of one"
)


def find_bundle(named: str | Path | None = None) -> Path:
    """The folder of the detector to use: the named one, else that of `$AVDETECT_BUNDLE`, else the built-in one.

    A str may be `builtin`, `latest` (the newest below ./runs) or a folder; a Path is always a folder. Raises
    WeightsError where `builtin` was not installed and where there is no `latest`; whether a folder holds a
    detector shows when it is read.
    """
    if isinstance(named, Path):
        return named
    wanted = named or os.environ.get(ENVIRONMENT) or BUILTIN
    if wanted == BUILTIN:
        return _builtin()
    return _latest() if wanted == LATEST else Path(wanted)


def _builtin() -> Path:
    if not (BUILTIN_FOLDER / "card.json").is_file():
        raise WeightsError(
            f"this installation lacks the built-in detector ({BUILTIN_FOLDER} holds no card.json): install avdetect "
            "again, or name another detector with --bundle FOLDER"
        )
    return BUILTIN_FOLDER


def _latest() -> Path:
    cards = sorted(Path("runs").glob("*/*/bundle/card.json"), key=lambda path: path.stat().st_mtime)
    if not cards:
        raise WeightsError(f"no trained detector is below ./runs: {HOW_TO_GET_ONE}")
    return cards[-1].parent


def read_card(folder: str | Path) -> dict[str, Any]:
    """What the card of a bundle says, unchecked but for its schema. Raises WeightsError where there is none."""
    folder = Path(folder)
    path = folder / "card.json"
    if not path.is_file():
        raise WeightsError(f"{folder} is not a detector bundle (no card.json): {HOW_TO_GET_ONE}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON ({error}): copy or train the bundle again") from error
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise WeightsError(
            f"{path} is not of schema {SCHEMA}: it was made by another version, train it again"
        )
    return card


def choose_bundle(named: str | Path | None, say: Callable[[str], None]) -> Path:
    """As `find_bundle`; says which one it is where the user has not named its folder."""
    folder = find_bundle(named)
    if named is None or named in (BUILTIN, LATEST):
        say(_introduction(folder))
    return folder


def _introduction(folder: Path) -> str:
    if folder != BUILTIN_FOLDER:
        return f"using the detector in {folder}"
    card = read_card(folder)
    return (
        f"using the built-in detector {card.get('name')} (licence of its weights: {card.get('licence')}); "
        "`avdetect bundle show` says what it was measured on and where it fails"
    )
