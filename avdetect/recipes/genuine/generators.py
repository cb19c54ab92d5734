"""Where the report's pseudo-fakes come from: which kinds of faces there are, and the networks that make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avdetect.data.pseudo import faces
from avdetect.data.pseudo.clips import load_generators
from avdetect.errors import ConfigError

PARTS = {"face": "visual", "voice": "audio"}  # the parts that networks help to fake, and their folders


def generator_folders(folder: str | None) -> dict[str, Path]:
    """By part the folder of its networks in the `generators` of a run; without a folder there are none.

    Raises ConfigError where the folder holds neither.
    """
    if folder is None:
        return {}
    found = {part: Path(folder) / name for part, name in PARTS.items() if (Path(folder) / name).is_dir()}
    if not found:
        raise ConfigError(
            f"{folder} holds neither visual nor audio: name the generators folder of a run of genuine_only, or null"
        )
    return found


def open_generators(folder: str | None) -> dict[str, Any]:
    """The networks as `pseudo.clips.manipulate` takes them, None where there are none."""
    return load_generators(generator_folders(folder))


def face_kinds(folder: str | None) -> list[str]:
    """Kinds of pseudo-fakes of faces that can be made with these networks and another person's face."""
    without = () if "face" in generator_folders(folder) else ("generators",)
    return [kind for kind in faces.KINDS if faces.NEEDS.get(kind) not in without]
