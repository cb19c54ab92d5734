"""Weights on disk: safe reading and writing, the catalogue of published ones, and the store that fetches them.

Importing this package does not import torch: the catalogue must answer at once.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "in_half_precision": "files",
    "load_strict": "files",
    "read_metadata": "files",
    "read_state": "files",
    "sha256_file": "hashing",
    "write_safetensors": "files",
    "Published": "catalog",
    "find_published": "catalog",
    "list_published": "catalog",
    "cached_file": "store",
    "import_file": "store",
    "is_cached": "store",
    "pull": "store",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"avdetect.weights.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
