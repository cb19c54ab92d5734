"""What a dataset reader is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avdetect.data.manifest import Manifest


@dataclass(frozen=True)
class DatasetFormat:
    """One layout of a dataset on disk.

    `accepts` describes the layout in one line (help and error text); `detect(root)` tells whether `root` has
    it, quickly and without raising; `read(root, seed)` lists every clip, raising DataError for a damaged
    index.
    """

    name: str
    accepts: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, int], Manifest]


def folders_in(parent: Path) -> list[Path]:
    """Folders in `parent`, not the hidden ones; a part may have thousands of files, none is looked at singly."""
    with os.scandir(parent) as entries:
        return sorted(Path(e.path) for e in entries if _is_folder(e) and not e.name.startswith("."))


def _is_folder(entry: os.DirEntry) -> bool:
    """As `entry.is_dir()`, which raises for a link to itself."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def walk_error(error: OSError) -> None:
    """For `os.walk(…, onerror=)`, which else leaves out a folder that it may not list."""
    raise error
