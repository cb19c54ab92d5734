"""Training state on disk: written beside and renamed, so that a kill leaves the old one whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from avdetect.errors import WeightsError


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises WeightsError if the file is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise WeightsError(
            f"{path} is damaged ({type(error).__name__}): delete it to train this stage anew"
        ) from error
