"""Why an encoder calls a thing fake: maps over faces, sounds and seconds. Importing this does not import torch."""

from importlib import import_module
from typing import Any

_PLACES = {
    "Explanation": "explanation",
    "explain": "explanation",
    "METHODS": "methods",
    "default_method": "methods",
    "methods_for": "methods",
    "View": "views",
    "gradcam_maps": "cam",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"avdetect.explain.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
