"""Format `manifest`: a table written before, by `avdetect data index` or by hand."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest

NAMES = ("manifest.csv", "manifest.parquet")


def _file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".parquet") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def read(root: Path, seed: int = 0) -> Manifest:
    """Read it as it is; its own `split` column is kept."""
    return Manifest.read(_file(root) or root, check=False)


FORMAT = DatasetFormat(
    name="manifest",
    accepts="a .csv or .parquet with at least the columns path and label, or a folder with manifest.csv",
    detect=lambda root: _file(root) is not None,
    read=read,
)
