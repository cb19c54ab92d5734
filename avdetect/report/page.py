"""One self-contained HTML page for verdicts: no outside request, no script but its own, all text escaped."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from avdetect import __version__
from avdetect.inference import verdict as words
from avdetect.inference.verdict import Verdict
from avdetect.report.drawings import Spectrogram, SyncCurve, Timeline, spectrogram, sync_curve, timeline
from avdetect.report.pictures import MEL_RANGE_DB, FacePicture, ReportPictures, crop_uri, overlay_uri
from avdetect.report.policy import TEMPLATES, content_security_policy, inlined

NOTHING = Markup("")
_PACKAGES = ("torch", "torchvision", "timm", "facenet-pytorch", "av", "librosa", "numpy")


@dataclass
class Section:
    """One verdict as the template sees it."""

    id: str
    name: str
    verdict: Verdict
    faces: list[tuple[FacePicture, str, str | None]]  # picture, crop URI, overlay URI
    timeline: Timeline | None
    mel: Spectrogram | None
    sync: SyncCurve | None
    facts: list[tuple[str, str]]
    command: str


def write_report(
    verdict: Verdict | Sequence[Verdict],
    pictures: ReportPictures | Sequence[ReportPictures],
    path: str | Path,
) -> None:
    """Write the page; a file that is there is replaced only by the complete page.

    verdict, pictures: one each, or as many of one as of the other (the page then starts with an index).
    Raises OSError where the path cannot be written.
    """
    several = isinstance(verdict, Sequence)
    page = render_page(verdict if several else [verdict], pictures if several else [pictures])
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def render_page(
    verdicts: Sequence[Verdict],
    pictures: Sequence[ReportPictures],
    *,
    top: Markup = NOTHING,
    bottom: Markup = NOTHING,
    policy: str | None = None,
) -> str:
    """The page as text. Raises ValueError for no verdict, or unless each has its pictures.

    top, bottom: what stands before and after the report (navigation), already safe; policy: instead of
    `content_security_policy()`, which allows no form.
    """
    if not verdicts or len(verdicts) != len(pictures):
        raise ValueError(f"{len(verdicts)} verdicts, {len(pictures)} sets of pictures: one of each is needed")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": words, "mel_range_db": MEL_RANGE_DB}
    pairs = enumerate(zip(verdicts, pictures, strict=True), start=1)
    return environment.get_template("report.html.j2").render(
        sections=[_section(number, verdict, shown) for number, (verdict, shown) in pairs],
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=_versions(),
        top=top,
        bottom=bottom,
        policy=policy or content_security_policy(),
        style=Markup(inlined("report.css")),
        script=Markup(inlined("report.js")),
    )


def _safe(value: Any) -> Any:
    # Markup (what macros return) is a subclass of str and already safe.
    return words.printable(value) if type(value) is str else value


def _section(number: int, verdict: Verdict, pictures: ReportPictures) -> Section:
    axis = timeline(verdict)
    return Section(
        id=f"file-{number}",
        name=Path(verdict.path).name or verdict.path,
        verdict=verdict,
        faces=[
            (
                face,
                crop_uri(face.crop),
                None if face.attention is None else overlay_uri(face.crop, face.attention),
            )
            for face in pictures.faces
        ],
        timeline=axis,
        mel=spectrogram(pictures, axis.duration_s if axis else None),
        sync=sync_curve(pictures),
        facts=_facts(verdict),
        command=_command(verdict),
    )


def _facts(verdict: Verdict) -> list[tuple[str, str]]:
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
    return _listed(
        (media["video_codec"], "{}"),
        (media["width_px"], "{} × " + f"{media['height_px'] or '?'} px"),
        (media["fps"], "{:.4g} frames per second"),
        (media["pixel_format"], "{}"),
        (media["rotation_deg"] or None, "turned by {:g}° as the file asks"),
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


def _command(verdict: Verdict) -> str:
    parts = ["avdetect", "predict", verdict.path]
    if verdict.bundle.get("path"):
        parts += ["--bundle", str(verdict.bundle["path"])]
    return shlex.join([*parts, "--json"])


def _versions() -> list[tuple[str, str]]:
    found = [("avdetect", __version__), ("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:  # vendored or built without metadata: say so
            found.append((package, "not known"))
    return found
