"""What a dataset reader is."""

from __future__ import annotations

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
