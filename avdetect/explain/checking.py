"""The sanity checks of every method on the encoders of one detector, as a table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avdetect.data.demo.miniature import Miniature
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.explain import checks
from avdetect.explain.checks import Planted
from avdetect.explain.explanation import sound_views
from avdetect.explain.gradients import integrated
from avdetect.explain.lrp import conservation_error, relevances
from avdetect.explain.methods import METHODS, Method, methods_for, unknown_method
from avdetect.explain.views import FaceView, MouthView, View
from avdetect.inference import Bundle
from avdetect.media import Clip, read_clip

INPUTS, REDRAWN_INPUTS = 10, 3
MOUTH_FRAMES = 36
UNLIKE = 0.5  # rank correlation that is left, at most, when all weights are random
EXACT = 0.01  # error of sums that must add up
SUBJECTS, SECONDS = 5, 3.0  # of the drawn people, if no files are given


@dataclass(frozen=True)
class Check:
    """passed is None where the method was refused, or nothing could be checked: `found` says why."""

    modality: str
    network: str
    method: str
    check: str
    passed: bool | None
    value: float | None
    found: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_bundle(
    bundle: Bundle, paths: list[Path], only: str | None = None, method: str | None = None
) -> Iterator[Check]:
    """Checks of all encoders, on these files, or on drawn people who talk where there are none.

    only, method: one modality, one method. An encoder for which the files hold nothing gives one row that says so.
    """
    if method is not None and method not in METHODS:
        raise ConfigError(unknown_method(method))
    with tempfile.TemporaryDirectory() as folder:
        if not paths:
            drawn = Miniature()
            paths = [drawn.video(Path(folder) / f"{i}.mp4", i, seconds=SECONDS) for i in range(SUBJECTS)]
        clips = [read_clip(path, bundle.clip) for path in paths]
        for modality, encoder in bundle.encoders.items():
            if only in (None, modality):
                yield from check_encoder(encoder, inputs_of(clips, encoder), method)


def inputs_of(clips: Iterable[Clip], encoder: Encoder) -> list[tuple[View, torch.Tensor]]:
    """At most `INPUTS` views of single inputs, spread over the clips."""
    per_clip = [list(_inputs_of_clip(clip, encoder)) for clip in clips]
    longest = max(map(len, per_clip), default=0)
    turns = [found[i] for i in range(longest) for found in per_clip if i < len(found)]
    return turns[:INPUTS]


def _inputs_of_clip(clip: Clip, encoder: Encoder) -> Iterator[tuple[View, torch.Tensor]]:
    device = next(encoder.parameters()).device
    if encoder.kind == "visual":
        for track in clip.tracks:
            if len(track.crops) >= encoder.preprocess.frames:
                x = encoder.preprocess(np.asarray(track.crops)).to(device)
                yield from ((FaceView(encoder), one) for one in x[:: max(1, len(x) // 3)].split(1))
    elif encoder.kind == "audio":
        if clip.audio is not None and np.abs(clip.audio).max(initial=0.0) > 0:
            for view, x in sound_views(encoder, encoder.preprocess(np.asarray(clip.audio))[0].to(device)):
                yield from ((view, one) for one in x.split(1))
    elif clip.audio is not None:
        for track in clip.tracks:
            for start in range(0, len(track.mouths) - MOUTH_FRAMES + 1, MOUTH_FRAMES):
                part = np.asarray(track.mouths[start : start + MOUTH_FRAMES])
                mouths, sound = encoder.preprocess(part, track.mouth_start + start, np.asarray(clip.audio))
                view = MouthView(encoder, mouths.float().to(device), sound.to(device))
                yield view, view.whole()


def check_encoder(
    encoder: Encoder, inputs: list[tuple[View, torch.Tensor]], method: str | None = None
) -> Iterator[Check]:
    """All checks of one method, or of all, on one encoder; inputs: views of single inputs (1, …)."""
    rng = np.random.default_rng(0)
    planted = [checks.plant(view, x, rng) for view, x in inputs]
    yield from check_planted(encoder, planted, method)


def check_planted(encoder: Encoder, planted: list[Planted], method: str | None = None) -> Iterator[Check]:
    """As `check_encoder`, of inputs in which it is known what speaks for fake."""
    firm = [given for given in planted if given.rise >= checks.FIRM_RISE]
    if len(firm) < REDRAWN_INPUTS:
        found = (
            f"an artefact could be planted in {len(firm)} of {len(planted)} inputs: give files that hold more"
        )
        yield Check(encoder.kind, encoder.name, "all", "planted artefact", None, None, found)
        return
    orders = np.random.default_rng(1)
    random = [
        np.mean([checks.removal_score(g.view, g.x, orders.random(g.inside.shape)) for _ in range(3)])
        for g in firm
    ]
    for name, refused in methods_for(encoder).items():
        if method not in (None, name):
            continue
        if refused is not None:
            yield Check(encoder.kind, encoder.name, name, "refused", None, None, refused)
            continue
        yield from _check_method(encoder, METHODS[name], firm, np.array(random))


def _check_method(
    encoder: Encoder, method: Method, firm: list[Planted], random: np.ndarray
) -> Iterator[Check]:
    def row(check: str, passed: bool, value: float, found: str) -> Check:
        return Check(encoder.kind, encoder.name, method.name, check, bool(passed), float(value), found)

    maps = [method.run(given.view, given.x)[0].float().cpu().numpy() for given in firm]
    hits, chance, p = checks.pointing_game(maps, [given.inside for given in firm])
    found = f"{hits.sum()} of {len(hits)} peaks in the planted area, {chance * len(hits):.1f} by chance (p {p:.1g})"
    yield row("planted artefact", p < checks.SIGNIFICANCE, hits.mean(), found)

    if method.evidence:
        scores = [checks.removal_score(g.view, g.x, values) for g, values in zip(firm, maps, strict=True)]
        gain, p = checks.better_than_random(np.array(scores), random)
        found = f"logit {gain:+.2f} better than random order (p {p:.1g}, {len(firm)} inputs)"
        yield row("deletion/insertion", gain > 0 and p < checks.SIGNIFICANCE, gain, found)

    few = slice(REDRAWN_INPUTS)
    fall = checks.fall_of_likeness(method.run, firm[few], maps[few])
    found = "rank correlation 1 → " + " → ".join(f"{value:.2f}" for value in fall) + " as layers are redrawn"
    yield row("random weights", fall[-1] <= UNLIKE, fall[-1], found)

    if method.name == "integrated_gradients":
        errors = []
        for given in firm[few]:
            with torch.no_grad():
                ends = float(given.view(given.x)), float(given.view(given.view.baseline(given.x)))
            errors.append(checks.completeness_error(integrated(given.view, given.x), *ends))
        yield row(
            "completeness", max(errors) <= EXACT, max(errors), f"sums are {max(errors):.2%} off at most"
        )
    if method.name == "lrp":
        error = max(conservation_error(*relevances(given.view, given.x)) for given in firm)
        yield row("conservation", error <= EXACT, error, f"{error:.2%} of a logit is lost at most")


def table_lines(rows: Iterable[Check]) -> Iterator[str]:
    """The checks as text, a line each as they come, under a heading for each network."""
    last = None
    for row in rows:
        if (row.modality, row.network) != last:
            if last is not None:
                yield ""
            last = (row.modality, row.network)
            yield f"{row.modality}: {row.network}"
        mark = {True: "passed", False: "FAILED", None: "-"}[row.passed]
        yield f"  {row.method:<21} {row.check:<19} {mark:<7} {row.found}"


def table(rows: Iterable[Check]) -> str:
    """`table_lines` in one text."""
    return "\n".join(table_lines(rows))
