"""From a file to a verdict. Importing this package does not import torch: a detector's card must be shown at once."""

from importlib import import_module
from typing import Any

_PLACES = {
    "Analysis": "detector",
    "Bundle": "bundle",
    "Detector": "detector",
    "Verdict": "verdict",
    "choose_bundle": "card",
    "clip_settings_of": "bundle",
    "find_bundle": "card",
    "load_bundle": "bundle",
    "save_bundle": "bundle",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"avdetect.inference.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
