"""`avdetect data …`: datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Datasets: index a folder, extract faces and sound once, make the demo set.", no_args_is_help=True
)


@app.command("index")
def index(
    format: Annotated[str, typer.Argument(help="Dataset layout, or `auto`.")],
    root: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    out: Annotated[Path, typer.Option(help="Manifest to write (.csv or .parquet).")] = Path("manifest.csv"),
    seed: Annotated[int, typer.Option(help="Seed of the split where none is published.")] = 0,
) -> None:
    """Write the manifest of a dataset as it lies on disk."""
    from avdetect.data import commands

    commands.index(format, root, out, seed)


@app.command("prepare")
def prepare(
    manifest: Annotated[Path, typer.Argument(help="Manifest made by `avdetect data index`.")],
    out: Annotated[Path, typer.Argument(help="Folder for crops and sound.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = 2,
    crop_size: Annotated[int, typer.Option(help="Side of the stored face crops, pixels.")] = 224,
) -> None:
    """Extract face crops, mouth crops and 16 kHz sound once; continues after an interruption."""
    from avdetect.data import commands

    if commands.prepare(manifest, out, workers, crop_size):
        raise typer.Exit(1)


@app.command("check")
def check(
    manifest: Annotated[Path, typer.Argument(help="Manifest made by `avdetect data index`.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the files, if it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = 2,
) -> None:
    """Open every file and look for missing, damaged, duplicate and leaking clips and inverted labels."""
    from avdetect.data import commands

    if not commands.check(manifest, root, workers, as_json):
        raise typer.Exit(1)


@app.command("audit")
def audit(
    manifest: Annotated[Path, typer.Argument(help="Manifest made by `avdetect data index`.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the files, if it was moved.")] = None,
    where: Annotated[str | None, typer.Option(help="Rows only, as \"split == 'test'\".")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write (default: audit.json beside it).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of a table.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes.")] = 2,
) -> None:
    """Measure how far file size, duration, silence and other shortcuts tell fakes; goes on where it stopped."""
    from avdetect.evaluation.audit import audit_file

    audit_file(manifest, root, where, out, workers, as_json)


@app.command("demo")
def demo(
    out: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    clips: Annotated[int | None, typer.Option(help="How many clips of the demo set [default: 240].")] = None,
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same clips.")] = 0,
    layout: Annotated[
        str | None, typer.Option(help="A miniature of this dataset instead; `list` names them.")
    ] = None,
) -> None:
    """Make the demo set: talking faces drawn by the program, genuine and manipulated, in DFDC's layout."""
    from avdetect.data import commands

    commands.demo(out, clips, seed, layout)
