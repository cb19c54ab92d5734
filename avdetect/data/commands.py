"""What `avdetect data index` and `avdetect data prepare` do; everything is said on stderr."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from avdetect.data.formats import read_format
from avdetect.data.manifest import Manifest, class_counts, missing_sentence


def index(format: str, root: str | Path, out: str | Path = "manifest.csv", seed: int = 0) -> Manifest:
    """Write the manifest of the dataset in `root` to `out` (.csv or .parquet) and say what is in it.

    `format`: name of a layout, or `auto`. All rows of the dataset's index are written; missing files are
    named.
    """
    console = Console(stderr=True)
    manifest = read_format(format, root, seed)
    manifest.write(out)
    for note in manifest.notes:
        console.print(note, highlight=False, markup=False)
    console.print(counts_table(manifest))
    missing = manifest.missing_files()
    if len(missing):
        console.print(missing_sentence(missing, len(manifest)), style="yellow", highlight=False, markup=False)
    console.print(f"{len(manifest)} clips written to {out}", highlight=False, markup=False)
    return manifest


def prepare(
    manifest: str | Path, out: str | Path, workers: int = 2, crop_size: int = 224, where: str | None = None
) -> int:
    """Prepare the clips of a manifest file into the folder `out`; returns how many could not be read.

    `where`: pandas query on the manifest's columns. Missing files are named and do not count as failed.
    """
    from avdetect.data.prepare import prepare as extract  # needs torch: not for `avdetect data index`
    from avdetect.media import ClipSettings

    table = Manifest.read(manifest, check=False)
    table = table.where(where) if where else table
    prepared = extract(table.check(), out, ClipSettings(crop_size=crop_size), workers=workers)
    return int((prepared.table["status"] == "failed").sum())


def counts_table(manifest: Manifest) -> Table:
    """Clips per dataset, kind, split and class."""
    table = Table("dataset", "kind", "split", "genuine", "fake", "unlabelled")
    rows = manifest.table.assign(
        split=manifest.table["split"].fillna("-"), kind=manifest.table["kind"].fillna("-")
    )
    for names, part in rows.groupby(["dataset", "kind", "split"], sort=True):
        table.add_row(*names, *(f"{count:,}" for count in class_counts(part["label"]).values()))
    return table
