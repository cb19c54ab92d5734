"""`avdetect bundle …`: detectors on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Detectors on disk: what one is, and making one to hand out.", no_args_is_help=True)


@app.command("show")
def show(
    bundle: Annotated[
        str | None,
        typer.Argument(help="Folder, `builtin` or `latest` (default: the one that `predict` would use)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The card as it is, instead of text.")] = False,
) -> None:
    """Print the card of a detector: data, licence, what it was measured at, where it fails."""
    from avdetect.inference.card import find_bundle, read_card

    folder = find_bundle(bundle)
    if as_json:
        print(json.dumps(read_card(folder)))
        return
    from avdetect.inference.card_text import card_text

    print(card_text(folder), end="")


@app.command("pack")
def pack(
    bundle: Annotated[str, typer.Argument(help="The bundle of a tested run, or `latest`.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    card: Annotated[
        Path, typer.Option(help="YAML: name, licence, terms, data, training, known_failures, warnings.")
    ],
) -> None:
    """Make a detector to hand out: half the size (20 MB at most), its licence, data and failures on the card."""
    from avdetect.inference.card import find_bundle
    from avdetect.inference.release import pack_bundle

    packed = pack_bundle(find_bundle(bundle), out, card)
    changes = ", ".join(f"{name} {change:.1e}" for name, change in packed.logit_change.items())
    print(
        f"{packed.folder}: {packed.size_bytes / 1e6:.1f} MB; largest change of a logit by rounding: {changes}"
    )
