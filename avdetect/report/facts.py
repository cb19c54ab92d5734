"""What a report tells in rows and sentences: the file, the detector's measured errors, how to cite and repeat it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from avdetect import __version__
from avdetect.inference import verdict as words
from avdetect.inference.card_text import measured_rows
from avdetect.inference.verdict import Verdict

_PACKAGES = ("torch", "torchvision", "timm", "facenet-pytorch", "av", "librosa", "numpy")


@dataclass
class DetectorFacts:
    """What the card of a bundle says of it; a part that the card leaves out is empty."""

    errors: str | None  # how often it is wrong, in one sentence
    measured: list[tuple[str, str, str]]  # what, figures, on which clips
    failures: list[str]
    data: list[str]
    terms: str | None


def file_facts(verdict: Verdict) -> list[tuple[str, str]]:
    media = {name: verdict.media.get(name) for name in words.MEDIA_FACTS}
    container = media["container"] or "container not known"
    facts = [("Path", verdict.path), ("Kind", f"{verdict.kind}, {container}")]
    if verdict.kind != "image":
        length = media["duration_s"]
        known = length is not None
        facts.append(("Length", f"{words.clock(length, 1)} ({length:.2f} s)" if known else "not known"))
    size = media["size_bytes"]
    facts.append(("Size", "not known" if size is None else f"{size / 1e6:.2f} MB ({size:,} bytes)"))
    facts += [("Picture", _picture(media)), ("Sound", _sound(media))]
    facts.append(("SHA-256", media["sha256"] or "not known"))
    if verdict.timing_s:
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in verdict.timing_s.items())
        facts.append(("Analysis", stages))
    return facts


def _picture(media: dict[str, Any]) -> str:
    if media["width_px"] is None and media["video_codec"] is None:
        return "none"
    turned = "turned by {:g}° as the file asks" if media["rotation_deg"] else "not turned"
    return _listed(
        (media["video_codec"], "{}"),
        (media["width_px"], "{} × " + f"{media['height_px'] or '?'} px"),
        (media["fps"], "{:.4g} frames per second"),
        (media["pixel_format"], "{}"),
        (media["rotation_deg"], turned),
    )


def _sound(media: dict[str, Any]) -> str:
    if media["audio_codec"] is None:
        return "none"
    late = None
    if media["audio_start_s"] is not None and media["video_start_s"] is not None:
        late = round(1000 * (media["audio_start_s"] - media["video_start_s"])) or None
    return _listed(
        (media["audio_codec"], "{}"),
        (media["sample_rate_hz"], "{:,} Hz"),
        (media["channels"], "{} channel" if media["channels"] == 1 else "{} channels"),
        (late, "starts {:+d} ms from the first frame"),
    )


def _listed(*items: tuple[Any, str]) -> str:
    return ", ".join(form.format(value) for value, form in items if value is not None)


def detector_facts(verdict: Verdict, card: Mapping[str, Any]) -> DetectorFacts:
    """From the card of the bundle that gave the verdict; {} where it is not known."""
    return DetectorFacts(
        errors=_errors(verdict, card),
        measured=measured_rows(card),
        failures=list(card.get("known_failures") or []),
        data=list(card.get("data") or card.get("training_data") or []),
        terms=card.get("terms"),
    )


def _errors(verdict: Verdict, card: Mapping[str, Any]) -> str | None:
    """The equal error rate of what decided this verdict, in words; None where nothing was judged or measured."""
    judged = [name for name in words.MODALITIES if verdict.modalities[name].score is not None]
    if not judged:
        return None
    decided = judged[0] if len(judged) == 1 else "fused"
    report = (card.get("metrics") or {}).get("clips", {}).get(decided, {})
    rate = report.get("eer") or {}
    if rate.get("value") is None:
        return None
    part = "all parts together" if decided == "fused" else f"the {words.PARTS[decided].lower()} alone"
    low, high = (rate[end] for end in ("low", "high"))
    interval = "" if low is None or high is None else f" (95 % interval {100 * low:.0f} to {100 * high:.0f})"
    return (
        f"Judging by {part}, with the limit set so that both errors are equally frequent, it was wrong about "
        f"{100 * rate['value']:.0f} of 100 genuine clips and as many of 100 fake ones of its own test{interval}. "
        "On other material it can be wrong more often."
    )


def command(verdict: Verdict) -> str:
    """The command that gives the verdict again."""
    parts = ["avdetect", "predict", verdict.path]
    if verdict.bundle.get("path"):
        parts += ["--bundle", str(verdict.bundle["path"])]
    return shlex.join([*parts, "--json"])


def citation(verdict: Verdict, created: str) -> str:
    """What to write where the result is used: program, detector, file, date and score."""
    made = f", made {verdict.bundle['created']}" if verdict.bundle.get("created") else ""
    score = "no score" if verdict.score is None else f"score {verdict.score:.2f}"
    return (
        f"avdetect {__version__} (multimodal audio-visual deepfake detection), detector "
        f"{verdict.bundle.get('name') or 'unnamed'}{made}: analysis of {Path(verdict.path).name or verdict.path}, "
        f"SHA-256 {verdict.media.get('sha256') or 'not known'}, {created}: {words.headline(verdict)} ({score})."
    )


def versions() -> list[tuple[str, str]]:
    found = [("avdetect", __version__), ("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:  # vendored or built without metadata: say so
            found.append((package, "not known"))
    return found
