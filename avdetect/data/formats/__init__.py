"""Datasets as they lie on disk: one module per dataset, one function to read them all."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from pathlib import Path

from avdetect.data.formats import (
    aiface,
    asvspoof2019_la,
    asvspoof2021,
    avdeepfake1m,
    celeb_df,
    ciplab,
    deepfakebench,
    dfdc,
    dfdc_preview,
    faceforensics,
    faces140k,
    fakeavceleb,
    folder,
    lavdf,
    table,
    wilddeepfake,
)
from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest
from avdetect.errors import ConfigError, DataError

_FORMATS: dict[str, DatasetFormat] = {
    f.name: f
    for f in (
        dfdc.FORMAT,
        dfdc_preview.FORMAT,
        faceforensics.FORMAT,
        celeb_df.FORMAT,
        wilddeepfake.FORMAT,
        asvspoof2019_la.FORMAT,
        asvspoof2021.LA,
        asvspoof2021.DF,
        fakeavceleb.FORMAT,
        lavdf.FORMAT,
        avdeepfake1m.FORMAT,
        aiface.FORMAT,
        faces140k.FORMAT,
        ciplab.FORMAT,
        deepfakebench.FORMAT,
        folder.FORMAT,
        table.FORMAT,
    )
}
# A manifest is what somebody wrote about the folder on purpose: it goes before the bare layout. A plain tree is
# inside many of the others: it goes last.
_FIRST, _LAST = (table.FORMAT.name,), (folder.FORMAT.name,)


def list_formats() -> list[str]:
    """Names that `read_format` takes."""
    return list(_FORMATS)


def describe_formats() -> str:
    """One line per format: its name and the layout that it accepts."""
    return "\n".join(f"{f.name}: {f.accepts}" for f in _FORMATS.values())


def detect_format(root: str | Path) -> str:
    """Name of the format of a folder or manifest file.

    Raises DataError with the accepted ones where none fits, and with their names where several do.
    """
    root = _existing(root)
    with _reading(root):
        found = [f.name for f in _FORMATS.values() if f.detect(root)]
    if not found:
        raise DataError(f"{root} has none of the layouts that are read. Accepted:\n{describe_formats()}")
    special = [name for name in found if name not in (*_FIRST, *_LAST)]
    chosen = [name for name in _FIRST if name in found] or special or found
    if len(chosen) > 1:
        raise DataError(f"{root} fits several layouts ({', '.join(chosen)}): name the one to be read")
    return chosen[0]


def read_format(name: str, root: str | Path, seed: int = 0, check: bool = True) -> Manifest:
    """Manifest of the dataset in `root`, checked unless told otherwise. `name`: of `list_formats()`, or `auto`.

    `seed` is used where the dataset has no split of its own. All clips of the index are listed, also those
    whose file is not there (`Manifest.missing_files`). Raises ConfigError for an unknown name, DataError
    else.
    """
    root = _existing(root)
    name = detect_format(root) if name == "auto" else name
    if name not in _FORMATS:
        near = difflib.get_close_matches(name, _FORMATS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}" if near else f"one of auto, {', '.join(_FORMATS)}"
        raise ConfigError(
            f"unknown dataset format {name!r}: {hint}?"
            if near
            else f"unknown dataset format {name!r}: {hint}"
        )
    with _reading(root):
        manifest = _FORMATS[name].read(root, seed)
    if name != table.FORMAT.name:
        manifest.notes += _outside(manifest, root)
    return manifest.check() if check else manifest


@contextlib.contextmanager
def _reading(root: Path) -> Iterator[None]:
    """What the system refuses while a dataset is read, as one sentence."""
    try:
        yield
    except OSError as error:
        place = error.filename or root
        raise DataError(
            f"{place} cannot be read ({error.strerror or error}): check it and its permissions"
        ) from error
    except UnicodeEncodeError as error:  # of a file's name: tables hold text that is UTF-8
        raise DataError(f"{root} holds the name {error.object!r}, which is no UTF-8: rename it") from error


def _outside(manifest: Manifest, root: Path) -> list[str]:
    """A sentence about files that an index names by an absolute path elsewhere than below the dataset."""
    here = str(root.resolve())
    paths = manifest.table.loc[~manifest.table["root"].str.startswith(here), "path"]
    if paths.empty:
        return []
    return [
        f"the index names {len(paths)} files outside of {root}, as /{paths.iloc[0]}: they are read from there"
    ]


def _existing(root: str | Path) -> Path:
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder or file")
    return root


__all__ = ["DatasetFormat", "describe_formats", "detect_format", "list_formats", "read_format"]
