"""`avdetect embeddings`: maps of what a detector's encoders make of the clips of a set."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avdetect.cli.words import BUNDLE_HELP, listed


class Method(StrEnum):
    TSNE = "tsne"
    PCA = "pca"
    BOTH = "both"


def embeddings(
    data: Annotated[Path, typer.Option(help="Manifest, or a dataset's folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run goes on in it.")],
    bundle: Annotated[str | None, typer.Argument(help=BUNDLE_HELP, show_default=False)] = None,
    split: Annotated[str, typer.Option(help="Clips to show: train, val or all; test clips are not.")] = "val",
    modality: Annotated[
        str, typer.Option(help="Encoders, of visual,audio,lipsync; default: all of the detector's.")
    ] = "",
    by: Annotated[str, typer.Option(help="Columns of the manifest to colour by.")] = "label,method",
    method: Annotated[Method, typer.Option(help="Projection to the plane.")] = Method.BOTH,
    limit: Annotated[
        int, typer.Option(min=8, max=1500, help="Clips at most, drawn as good as at random.")
    ] = 500,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 = none but this.")] = 2,
    prepared: Annotated[
        Path | None, typer.Option(help="Folder of `avdetect data prepare`, added to (default: OUT/prepared).")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Pictures: `search` for faces, or each is a `face` already.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of t-SNE.")] = 0,
) -> None:
    """Show where a detector places clips, by PCA and t-SNE: pictures, and a page with the media behind each point."""
    from avdetect.scan.commands import run_embeddings

    unread = run_embeddings(
        bundle, data, out, split=split, modalities=listed(modality), by=listed(by),
        methods=("pca", "tsne") if method is Method.BOTH else (method.value,), limit=limit, workers=workers,
        prepared=prepared, pictures=pictures, seed=seed,
    )  # fmt: skip
    if unread:
        raise typer.Exit(1)
