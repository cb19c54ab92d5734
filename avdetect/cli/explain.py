"""`avdetect explain …`: why a file was judged as it was, and whether the explanations hold for a detector."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def explain(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files to explain; with --check, files to check on (default: drawn people)."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="gradcam, integrated_gradients, … (default: the network's); `list` shows all."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="visual, audio or lipsync (default: all that were judged).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and sounds.")] = Path("explanation"),
    bundle: Annotated[
        str | None, typer.Option(help="Detector: a folder, `builtin` or `latest`.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Sanity checks of every method on this detector, as a table.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
) -> None:
    """Show why: maps over faces, sounds and seconds. Exit code 1 where a file or a check failed."""
    if not check and not paths and method != "list":
        print("avdetect: name a file to explain, or --check, or --method list", file=sys.stderr)
        raise typer.Exit(2)
    from avdetect.explain import commands

    if check:
        failed = commands.check(bundle, list(paths or []), modality, method, as_json)
    elif method == "list":
        failed = commands.list_methods(bundle, modality, as_json)
    else:
        failed = commands.explain_files(list(paths or []), bundle, modality, method, out, as_json)
    raise typer.Exit(1 if failed else 0)
