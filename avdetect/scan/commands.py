"""What the command line prints of an evaluation, and of maps of embeddings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from avdetect.errors import ConfigError
from avdetect.evaluation import summary_table
from avdetect.inference import choose_bundle
from avdetect.scan.clip_scores import Options
from avdetect.scan.evaluate import evaluate, evaluate_scorefile

LINE_EVERY_S = 15.0


def run_evaluation(
    paths: list[str],
    data: list[Path],
    out: Path,
    *,
    scores: Path | None,
    layout: str | None,
    trim_silence: bool,
    pictures: str | None,
    prepared: list[Path],
    workers: int,
    export: str | None,
    **common: Any,
) -> int:
    """Evaluate, print the figures on stdout, warnings and progress on stderr; returns how many clips were unread.

    `paths`: the bundle (a folder or a name as `find_bundle` takes it; it may be left out) and further manifests, or
    with `scores` manifests alone; `common`: options of both `evaluate` and `evaluate_scorefile`. Raises ConfigError
    for options that do not go together.
    """
    say = _Progress()
    if scores is not None:
        if trim_silence or pictures or prepared or export:
            raise ConfigError(
                "with --scores no media are read: leave --trim-silence, --pictures, --prepared and --export out"
            )
        values = evaluate_scorefile(scores, [*data, *map(Path, paths)], out, layout=layout, say=say, **common)
    else:
        if layout is not None:
            raise ConfigError("--layout belongs to --scores: name the score file")
        named, more = _bundle_and_manifests(paths)
        folder = choose_bundle(named, say.line)
        options = Options(trim_silence, pictures)
        values = evaluate(
            folder, [*data, *more], out, workers=workers, options=options, prepared=prepared,
            export=export, say=say, **common,
        )  # fmt: skip
    say.end()
    for text in values["warnings"]:
        say.line(text)
    for name, result in values["sets"].items():
        print(
            f"{name}: {result['n_clips']} clips, {result['n_unreadable']} unreadable, {result['n_missing']} missing"
        )
        print(summary_table(result).round(3).to_string(index=False, na_rep="-"))
    print(f"{out / 'evaluation.html'}")
    return sum(result["n_unreadable"] + result["n_missing"] for result in values["sets"].values())


def _bundle_and_manifests(paths: list[str]) -> tuple[str | None, list[Path]]:
    """A detector is a folder: where the first path is a file, none was named."""
    if not paths or Path(paths[0]).is_file():
        return None, [Path(path) for path in paths]
    return paths[0], [Path(path) for path in paths[1:]]


def run_embeddings(bundle: str | None, data: Path, out: Path, **options: Any) -> int:
    """Draw the maps and write the page, print what is there on stdout; returns how many clips were unread.

    bundle: as `find_bundle` takes it; options: of `map_embeddings`.
    """
    from avdetect.scan.embeddings import map_embeddings
    from avdetect.scan.embeddings_page import write_embeddings_page

    say = _Progress()
    folder = choose_bundle(bundle, say.line)
    found = map_embeddings(folder, data, out, progress=True, say=say, **options)
    say("writing the page")
    write_embeddings_page(found, out / "embeddings.html")
    say.end()
    for text in found.set.warnings:
        say.line(text)
    for one in found.maps:
        titles = "; ".join(item.title for item in one.projections.values())
        print(f"{one.modality}: {len(one.table)} clips; {titles}")
    print(out / "embeddings.html")
    return found.unread


class _Progress:
    """The latest line: in place on a terminal, now and then elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.status = self.console.status("") if self.console.is_terminal else None
        self.told = 0.0

    def __call__(self, line: str) -> None:
        if self.status:
            self.status.start()  # not before: the preparation may have a bar of its own
            self.status.update(escape(line))
        elif time.monotonic() - self.told > LINE_EVERY_S:
            self.told = time.monotonic()
            self.console.print(line, markup=False)

    def line(self, text: str) -> None:
        """One that stays."""
        self.console.print(f"avdetect: {text}", markup=False, soft_wrap=True)

    def end(self) -> None:
        if self.status:
            self.status.stop()
