"""What `avdetect data index`, `prepare` and `check` do; but for findings, everything is said on stderr."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from avdetect.data.formats import read_format
from avdetect.data.manifest import Manifest, class_counts, missing_sentence
from avdetect.errors import ConfigError, DataError


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


def check(manifest: str | Path, root: str | Path | None, workers: int, as_json: bool) -> bool:
    """Print what `check_manifest` finds about a manifest file, one finding a line; returns whether all is well.

    `root`: folder of the files, where it is not the one that the manifest names.
    """
    from avdetect.data.check import ERROR, NOTE, check_manifest

    table = open_manifest(manifest, root)
    with file_progress("files") as progress:
        findings = check_manifest(table, workers, progress)
    for finding in findings:
        print(json.dumps(finding.to_dict()) if as_json else finding)
    errors = sum(finding.severity == ERROR for finding in findings)
    warnings = sum(finding.severity not in (ERROR, NOTE) for finding in findings)
    told = f"{manifest}: {len(table)} rows, {errors} errors, {warnings} warnings"
    Console(stderr=True).print(told, highlight=False, markup=False)
    return not errors


def open_manifest(manifest: str | Path, root: str | Path | None = None) -> Manifest:
    """A manifest file, its faults not yet looked at; its files are below `root` where that is given."""
    table = Manifest.read(manifest, check=False)
    if root is None:
        return table
    if not Path(root).is_dir():
        raise DataError(f"{root} is no folder: give the one that the manifest's paths are relative to")
    return Manifest(table.table.assign(root=str(Path(root).resolve())), name=table.name)


@contextlib.contextmanager
def file_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr: what it yields is called with (done, in all)."""
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def demo(out: Path | None, clips: int | None, seed: int, layout: str | None) -> None:
    """Write the demo set, or the miniature of a dataset's layout, and print the folder; `list`: the layouts."""
    from avdetect.data.demo import make_demo
    from avdetect.data.demo.layouts import list_layouts, make_layout

    if layout == "list":
        print("\n".join(list_layouts()))
    elif out is None:
        raise ConfigError("name the folder to write, as `avdetect data demo FOLDER`")
    elif layout is None:
        print(make_demo(out, clips=240 if clips is None else clips, seed=seed))
    elif clips is not None:
        raise ConfigError(f"a miniature of {layout} has as many clips as it has: leave out --clips")
    else:
        print(make_layout(layout, out, seed))
