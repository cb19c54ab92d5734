"""`avdetect weights …`: published checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Published checkpoints: what there is, under which terms; fetch them. Mix weights.",
    no_args_is_help=True,
)


@app.command("list")
def list_(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of a table.")
    ] = False,
) -> None:
    """List the published checkpoints, their licence and whether they are cached."""
    from avdetect.weights import commands, list_published

    if as_json:
        for entry in list_published():
            print(json.dumps(commands.describe(entry.name)))
    else:
        print(commands.table())


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name in `avdetect weights list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Print all that is known of a checkpoint: source, licence, training data, published score, polarity."""
    from avdetect.weights import commands

    values = commands.describe(name)
    print(json.dumps(values) if as_json else commands.as_card(values))


@app.command("pull")
def pull(name: Annotated[str, typer.Argument(help="Name in `avdetect weights list`.")]) -> None:
    """Download a checkpoint, verify it and keep it in the cache; continues after an interruption."""
    from avdetect.weights import commands

    print(commands.pull(name))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint on this machine, as its publisher made it.")],
    name: Annotated[str, typer.Option("--as", help="Name in `avdetect weights list`.")],
) -> None:
    """Take a checkpoint into the cache after it was verified and loaded."""
    from avdetect.encoders.registry import load_checkpoint
    from avdetect.weights import commands

    print(commands.import_file(file, name, load_checkpoint))


@app.command("mix")
def mix(
    first: Annotated[
        Path, typer.Argument(help="Weights of a training (RUN/checkpoints/visual.safetensors).")
    ],
    second: Annotated[Path, typer.Argument(help="Those of another that started from them.")],
    out: Annotated[Path, typer.Option("--out", help="Where the mixture is written.")],
    share: Annotated[float, typer.Option("--share", help="Of the second, 0 to 1.")] = 0.5,
) -> None:
    """Write the weighted mean of two files of weights of one network; choose the share on validation clips."""
    from avdetect.encoders import mix_encoders, save_encoder

    save_encoder(mix_encoders(first, second, share), out)
    print(f"{1 - share:g} of {first} and {share:g} of {second}: {out}")
