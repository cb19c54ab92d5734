"""One self-contained HTML page for verdicts: no outside request, no script but its own, all text escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from avdetect.inference import verdict as words
from avdetect.inference.verdict import Verdict
from avdetect.report import facts
from avdetect.report.drawings import (
    LipStrip,
    Spectrogram,
    SyncCurve,
    Timeline,
    lip_strip,
    spectrogram,
    sync_curve,
    timeline,
)
from avdetect.report.pagefile import page_environment, replace_text
from avdetect.report.pictures import MEL_RANGE_DB, FacePicture, ReportPictures, crop_uri, overlay_uri
from avdetect.report.policy import TEMPLATES, content_security_policy, inlined

NOTHING = Markup("")
_PLAYED = 6  # suspicious stretches of a part with a button each


@dataclass
class Section:
    """One verdict as the template sees it."""

    id: str
    name: str
    verdict: Verdict
    pictures: ReportPictures
    faces: dict[int, list[tuple[FacePicture, str, str | None]]]  # track -> picture, crop URI, overlay URI
    timeline: Timeline | None
    mel: Spectrogram | None
    sync: SyncCurve | None
    lips: LipStrip | None
    facts: list[tuple[str, str]]
    detector: facts.DetectorFacts
    same_detector: str | None  # id of the first section of this detector, which tells of it
    to_play: str  # JSON of (text, from, to) of suspicious stretches
    command: str
    citation: str
    of_file: str  # ends the labels of regions where there are several files
    heading: str  # h1 or h2; `part` is one level below
    part: str


def write_report(
    verdict: Verdict | Sequence[Verdict],
    pictures: ReportPictures | Sequence[ReportPictures],
    path: str | Path,
) -> None:
    """Write the page and, beside it, the verdict as JSON (`data_path`); files that are there are replaced whole.

    verdict, pictures: one each, or as many of one as of the other (the page then starts with an index, the JSON is
    a list). Raises OSError where the path cannot be written.
    """
    several = isinstance(verdict, Sequence)
    verdicts = verdict if several else [verdict]
    path, data = Path(path), data_path(path)
    page = render_page(verdicts, pictures if several else [pictures], data=data.name)
    values = [each.to_dict() for each in verdicts]
    text = json.dumps(values[0] if len(values) == 1 else values, indent=1, allow_nan=False)
    replace_text(data, text + "\n")
    replace_text(path, page)


def data_path(path: str | Path) -> Path:
    """Where the JSON of a report at `path` goes: report.html -> report.json. Raises ValueError for a .json itself."""
    if Path(path).suffix.lower() == ".json":
        raise ValueError(f"{path} is the name of a page, and its JSON goes beside it: name it .html")
    return Path(path).with_suffix(".json")


def render_page(
    verdicts: Sequence[Verdict],
    pictures: Sequence[ReportPictures],
    *,
    top: Markup = NOTHING,
    bottom: Markup = NOTHING,
    policy: str | None = None,
    data: str | None = None,
) -> str:
    """The page as text. Raises ValueError for no verdict, or unless each has its pictures.

    top, bottom: what stands before and after the report (navigation), already safe; policy: instead of
    `content_security_policy()`, which allows no form; data: name of the file with the JSON, told to the reader.
    """
    if not verdicts or len(verdicts) != len(pictures):
        raise ValueError(f"{len(verdicts)} verdicts, {len(pictures)} sets of pictures: one of each is needed")
    environment = page_environment(TEMPLATES)
    environment.globals |= {"words": words, "mel_range_db": MEL_RANGE_DB}
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    sections: list[Section] = []
    for verdict, shown in zip(verdicts, pictures, strict=True):
        sections.append(_section(sections, verdict, shown, created, len(verdicts) == 1))
    return environment.get_template("report.html.j2").render(
        sections=sections,
        created=created,
        versions=facts.versions(),
        top=top,
        bottom=bottom,
        policy=policy or content_security_policy(),
        data=data,
        style=Markup(inlined("report.css")),
        script=Markup(inlined("report.js")),
    )


def _section(
    before: Sequence[Section], verdict: Verdict, pictures: ReportPictures, created: str, alone: bool
) -> Section:
    number = len(before) + 1
    same = (section.id for section in before if section.verdict.weights == verdict.weights)
    axis = timeline(verdict)
    axis_s = axis.duration_s if axis else verdict.media.get("duration_s")
    faces: dict[int, list[tuple[FacePicture, str, str | None]]] = {}
    for face in pictures.faces:
        overlay = None if face.attention is None else overlay_uri(face.crop, face.attention)
        faces.setdefault(face.track_id, []).append((face, crop_uri(face.crop), overlay))
    return Section(
        id=f"file-{number}",
        name=Path(verdict.path).name or verdict.path,
        verdict=verdict,
        pictures=pictures,
        faces=faces,
        timeline=axis,
        mel=spectrogram(pictures, axis_s),
        sync=sync_curve(pictures),
        lips=lip_strip(pictures, axis_s),
        facts=facts.file_facts(verdict),
        detector=facts.detector_facts(verdict, pictures.card),
        same_detector=next(same, None),
        to_play=_to_play(verdict),
        command=facts.command(verdict),
        citation=facts.citation(verdict, created),
        of_file="" if alone else f" of file {number}",
        heading="h1" if alone else "h2",
        part="h2" if alone else "h3",
    )


def _to_play(verdict: Verdict) -> str:
    """The stretches that sound suspicious, by ear: those of the voice and of lip-sync."""
    found = []
    for name in ("audio", "lipsync"):
        for start, end in words.suspicious_spans(verdict, name)[:_PLAYED]:
            said = f"Play {words.clock(start)}–{words.clock(end)} ({words.PARTS[name].lower()})"
            found.append((said, start, end))
    return json.dumps(found, ensure_ascii=False)
