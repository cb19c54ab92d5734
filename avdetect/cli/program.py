"""`avdetect …`: results on stdout, progress and warnings on stderr; exit 0 all analysed, 1 some failed, 2 usage.

Heavy libraries are imported inside the commands: `avdetect --help` must answer at once.
"""

from __future__ import annotations

import gc
import glob
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from avdetect import __version__
from avdetect.cli.bundles import app as bundle_app
from avdetect.cli.data import app as data_app
from avdetect.cli.embeddings import embeddings
from avdetect.cli.explain import explain
from avdetect.cli.serve import serve
from avdetect.cli.weights import app as weights_app
from avdetect.cli.words import BUNDLE_HELP, listed
from avdetect.errors import AvdetectError, ConfigError

app = typer.Typer(
    help="Tell whether a video, an image or a voice recording is genuine or a deepfake, and show why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(bundle_app, name="bundle")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.command()(embeddings)
app.command()(serve)
app.command()(explain)

MEDIA_SUFFIXES = frozenset(
    ".mp4 .mov .m4v .mkv .webm .avi .mpg .mpeg .ts .3gp .wmv .flv .mts"
    " .jpg .jpeg .png .webp .wav .flac .mp3 .m4a .ogg .opus .aac".split()
)


def main() -> None:
    """Entry point: errors that a user can act on become one sentence and exit code 1, or 2 where they are of usage."""
    try:
        app()
    except AvdetectError as error:
        complain(str(error))
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None
    except OSError as error:
        # a folder that cannot be written, a full disk: nothing that a traceback would tell
        if error.strerror is None:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        complain(f"{place}{error.strerror}: mend that, or name another place")
        raise SystemExit(1) from None
    finally:
        gc.freeze()  # else the interpreter searches all of torch for garbage on its way out: most of a second


def complain(message: str) -> None:
    print(f"avdetect: {message}", file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"avdetect {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    paths: Annotated[
        list[str], typer.Argument(help="Videos, images, recordings, folders or globs.", metavar="PATH…")
    ],
    bundle: Annotated[str | None, typer.Option(help=BUNDLE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page, and the JSON beside it.")
    ] = None,
) -> None:
    """Judge files: the verdict, and the evidence for it."""
    if report is not None and report.suffix.lower() == ".json":
        what = f"{report} is a page, and its JSON stands beside it: name it .html"
        raise typer.BadParameter(what, param_hint="--report")
    files, failed = expand(paths)
    for message in failed:
        complain(message)
    if files:
        gc.disable()  # importing torch makes a million objects: looking for garbage among them takes a second
        from avdetect.scan import predict_files

        unread = predict_files(files, bundle, as_json, report, complain)
        raise typer.Exit(1 if unread or failed else 0)
    raise typer.Exit(1)


def expand(paths: list[str]) -> tuple[list[Path], list[str]]:
    """Files that the arguments mean, in order, and one sentence for each argument that means none."""
    files: list[Path] = []
    problems: list[str] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in MEDIA_SUFFIXES)
            if not inside:
                problems.append(
                    f"{text} holds no video, image or recording: name a folder that does, or a file"
                )
            files += inside
        elif path.exists():
            files.append(path)
        else:
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True))
            matches = [match for match in matches if match.is_file()]
            if not matches:
                problems.append(f"{text} does not exist: check the path")
            files += matches
    return list(dict.fromkeys(files)), problems


@app.command()
def robustness(
    data: Annotated[Path, typer.Option(help="Manifest, or a dataset's folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the table, the curves and what is worked out between.")
    ],
    bundle: Annotated[str | None, typer.Argument(help=BUNDLE_HELP, show_default=False)] = None,
    degradations: Annotated[
        str | None,
        typer.Option("--degrade", help="h264,mp3,… (all strengths) or h264:23:40 (these); default: all."),
    ] = None,
    split: Annotated[str, typer.Option(help="Clips to judge: test, val, train or all.")] = "test",
    pictures: Annotated[
        str | None, typer.Option(help="Still pictures: `search` them for faces, or each is a `face` crop.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that extract faces and sound.")] = 2,
    seed: Annotated[int, typer.Option(help="Of noise, rooms and intervals.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of a table.")
    ] = False,
) -> None:
    """How much a detector loses under compression, blur, noise, reverberation, sound out of step; resumable."""
    from avdetect.scan.robustness import measure_robustness, parse_conditions, show

    conditions = parse_conditions(degradations)
    table, unread = measure_robustness(
        bundle, data, out, conditions, complain, split, pictures, workers, seed
    )
    print(show(table, as_json))
    raise typer.Exit(1 if unread else 0)


@app.command()
def tune(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, as in `python -m avdetect.recipes.NAME`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of all trials, as the recipe takes them.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier calls included.")] = 20,
    study: Annotated[
        Path | None, typer.Option(help="Study file, continued if it is there (RUNS/RECIPE-tune/study.db).")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="configs/tune/NAME.yaml or a file; default: the recipe's `tune`, or its name."),
    ] = None,
) -> None:
    """Search a recipe's settings by validation alone: optuna, pruned after each epoch, resumable."""
    from avdetect.recipes.tune import tune_recipe

    print(tune_recipe(recipe, overrides or [], trials, study, space))


@app.command()
def evaluate(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{BUNDLE_HELP} Not with --scores. Further files are manifests.", metavar="BUNDLE"
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Manifest or dataset folder; several give the cross-dataset matrix.", metavar="MANIFEST…"
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run goes on in it.")] = Path(
        "evaluation"
    ),
    by: Annotated[str, typer.Option(help="Also by the values of these columns: gender,quality")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 = none but this.")] = 2,
    prepared: Annotated[
        list[Path] | None, typer.Option(help="Folder of `avdetect data prepare` to read clips from.")
    ] = None,
    trim_silence: Annotated[
        bool, typer.Option(help="Voices also without the silence at their ends.")
    ] = False,
    pictures: Annotated[
        str | None, typer.Option(help="Pictures: `search` for faces, or each is a `face` already.")
    ] = None,
    audit: Annotated[Path | None, typer.Option(help="Shortcut audit (default: audit.json beside).")] = None,
    export: Annotated[str | None, typer.Option(help="Write score files: asvspoof or avdeepfake1m.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Measure this score file instead of a bundle.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of --scores, where it is not plain.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and the maps.")] = 0,
) -> None:
    """Measure a detector on test sets: scores, metrics, plots and one HTML page."""
    from avdetect.scan.commands import run_evaluation

    problems = run_evaluation(
        list(paths or []), list(data or []), out, scores=scores, layout=layout, split=split,
        by=listed(by), workers=workers,
        prepared=list(prepared or []), trim_silence=trim_silence, pictures=pictures, audit=audit,
        export=export, seed=seed,
    )  # fmt: skip
    if problems:
        raise typer.Exit(1)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs or evaluations.", metavar="RUN…")
    ],
    metric: Annotated[str, typer.Option(help="roc_auc, eer, log_loss, accuracy, …")] = "roc_auc",
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Runs side by side on the same clips: is one better, and how far do seeds differ?"""
    from avdetect.recipes.compare import as_text, compare_runs

    found = compare_runs(runs, metric, seed)
    print(json.dumps(found) if as_json else as_text(found))


@app.command()
def encoders(
    name: Annotated[str | None, typer.Argument(help="Show the card of this network.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text.")] = False,
) -> None:
    """List the networks that `create_encoder` knows, or print the card of one."""
    from avdetect.encoders import describe_encoder, list_encoders

    if name is not None:
        from avdetect.weights.commands import as_card

        card = describe_encoder(name).to_dict()
        if as_json:
            print(json.dumps(card))
            return
        shapes = (f"({', '.join(map(str, shape))})" for shape in card["input"])
        preprocess = (f"{key} {value}" for key, value in card["preprocess"].items())
        figures = {key: f"{card[key]:,}" for key in ("embedding_dim", "parameters")}
        print(as_card(card | figures | {"input": ", ".join(shapes), "preprocess": ", ".join(preprocess)}))
        return
    for kind in ("visual", "audio", "lipsync"):
        for known in list_encoders(kind):
            if as_json:
                print(json.dumps({"name": known, "kind": kind}))
            elif not known.startswith("ssim("):
                print(f"{kind:8} {known}")
    if not as_json:
        print("visual   ssim(NAME), with any visual NAME above")
