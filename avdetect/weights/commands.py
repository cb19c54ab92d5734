"""What `avdetect weights …` does; results are returned as text, licences and progress go to stderr."""

import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from avdetect.weights import store
from avdetect.weights.catalog import Published, find_published, list_published
from avdetect.weights.download import Progress

WIDTH = 100  # characters of a card's line


def table() -> str:
    """One line a checkpoint: name, encoder, licence, size, state in the cache."""
    rows = [("NAME", "ENCODER", "LICENCE", "SIZE", "CACHED")]
    rows += [(e.name, e.encoder, e.licence, _megabytes(e), _state(e)) for e in list_published()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _megabytes(entry: Published) -> str:
    return f"{entry.size / 1e6:.1f} MB" if entry.size else "unknown"


def _state(entry: Published) -> str:
    if store.is_cached(entry):
        return "yes"
    return "no" if entry.sha256 else "no (import only)"


def describe(name: str) -> dict[str, Any]:
    """Everything known of a checkpoint, with the path where it is or would be cached."""
    entry = find_published(name)
    return {**entry.to_dict(), "cached": store.is_cached(entry), "file": str(store.place(entry))}


def as_card(values: Mapping[str, Any]) -> str:
    """Names and values, one below the other, long values wrapped; empty ones are left out."""
    left = max(map(len, values)) + 2
    lines = []
    for key, value in values.items():
        if value in (None, "", {}):
            continue
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        wrapped = textwrap.wrap(text, WIDTH - left, break_long_words=False, break_on_hyphens=False)
        lines.append(f"\n{' ' * left}".join([key.replace("_", " ").ljust(left) + wrapped[0], *wrapped[1:]]))
    return "\n".join(lines)


def pull(name: str) -> Path:
    """Download a checkpoint into the cache; terms that restrict use are shown first."""
    entry = find_published(name)
    if entry.restricted:
        print(f"Licence of {name}: {entry.licence}.\n{textwrap.fill(entry.terms, WIDTH)}", file=sys.stderr)
    with _bar(entry.filename) if sys.stderr.isatty() else nullcontext() as progress:
        return store.pull(entry, progress)


@contextmanager
def _bar(title: str):
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        update: Progress = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        yield update


def import_file(path: Path, name: str, load: Callable[[Published, Path], object]) -> str:
    """Take a checkpoint from disk into the cache once `load` has proved that it fits; a sentence for the user."""
    entry = find_published(name)
    place = store.import_file(path, entry, lambda copy: load(entry, copy))
    if entry.sha256:
        return f"{place} (SHA-256 as published)"
    return f"{place} (no SHA-256 was published; this file's, {store.known_hash(entry)}, is recorded)"
