"""Miniatures of published datasets, laid out as their publishers do: for tests, and to try a recipe on."""

from __future__ import annotations

import difflib
import os
import shutil
from importlib import import_module
from pathlib import Path

from avdetect.data.demo.miniature import Miniature
from avdetect.errors import ConfigError, DataError

# name of the format -> module below this package, with `make(root, media)`
LAYOUTS: dict[str, str] = {
    "dfdc_preview": "dfdc_preview",
    "faceforensics": "faceforensics",
    "celeb_df": "celeb_df",
    "wilddeepfake": "wilddeepfake",
    "dfdc": "dfdc",
    "dfdc_sample": "dfdc_sample",
    "dfdc_test": "dfdc_test",
    "asvspoof2019_la": "asvspoof2019_la",
    "asvspoof2021_la": "asvspoof2021_la",
    "asvspoof2021_df": "asvspoof2021_df",
    "fakeavceleb": "fakeavceleb",
    "lavdf": "lavdf",
    "avdeepfake1m": "avdeepfake1m",
    "aiface": "aiface",
    "faces140k": "faces140k",
    "ciplab": "ciplab",
    "deepfakebench": "deepfakebench",
    "folder": "folder",
}


def list_layouts() -> list[str]:
    """Names that `make_layout` takes."""
    return sorted(LAYOUTS)


def make_layout(name: str, root: str | Path, seed: int = 0, media: Miniature | None = None) -> Path:
    """Write the miniature of a dataset into the folder `root` and return it; a few MB, repeatable.

    `media` are the recordings that it is cut from; without one they are drawn anew with `seed`. The folder
    gets its name when it is whole: a run that was killed leaves `.NAME.unfinished` beside, which the next one
    clears. Raises ConfigError for an unknown name, DataError where `root` holds something.
    """
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(list_layouts())}"
        raise ConfigError(f"There is no miniature of a dataset {name!r}: {hint}")
    root = Path(os.path.abspath(root))
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not empty: choose another folder for the miniature of {name}.")
    media = Miniature(seed=seed) if media is None else media
    media.restart()
    unfinished = root.with_name(f".{root.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    import_module(f"{__name__}.{LAYOUTS[name]}").make(unfinished, media)
    os.replace(unfinished, root)
    return root
