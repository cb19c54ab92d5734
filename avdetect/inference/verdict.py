"""What a detector says of one file: result dataclasses, their JSON form, and the words for a terminal.

Score = P(fake) in [0, 1]; None where nothing could be judged, always with a reason. Times are seconds from
the first video frame (recordings: the first sample), boxes pixels of the upright original frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from avdetect.errors import ConfigError, DataError

SCHEMA = "avdetect.verdict/1"
LABELS = ("real", "fake", "uncertain", "unknown")
MODALITIES = ("visual", "audio", "lipsync")

# Facts about the file; each is None where the file has no such thing or does not tell.
MEDIA_FACTS = (
    "container", "duration_s", "size_bytes", "sha256",
    "video_codec", "width_px", "height_px", "fps", "rotation_deg", "pixel_format", "video_start_s",
    "audio_codec", "sample_rate_hz", "channels", "audio_start_s", "tags",
)  # fmt: skip
BUNDLE_FACTS = ("name", "path", "created")

PARTS = {"visual": "Face", "audio": "Voice", "lipsync": "Lip-sync"}
_PARTS_IN_TEXT = {"visual": "the face", "audio": "the voice", "lipsync": "the match of lips and voice"}
_STYLES = {"fake": "bold red", "real": "bold green", "uncertain": "bold yellow", "unknown": "bold"}
_IN_STEP_MS = 40.0  # one frame of the 25 Hz grid on which offsets are searched
_SPANS_SHOWN = 4


def label_of(score: float | None, real_below: float, fake_above: float) -> str:
    """real < `real_below` <= uncertain <= `fake_above` < fake; unknown without a score (None or NaN)."""
    if score is None or math.isnan(score):
        return "unknown"
    if score > fake_above:
        return "fake"
    return "real" if score < real_below else "uncertain"


@dataclass
class Modality:
    """P(fake) of one kind of evidence, or why there is none."""

    score: float | None = None
    reason: str | None = None


@dataclass
class LipSync(Modality):
    offset_ms: float | None = None  # positive = audio late
    confidence: float | None = None  # median - minimum of the distance over offsets


@dataclass
class FaceBox:
    time_s: float
    box_px: Sequence[float]  # x0, y0, x1, y1
    score: float | None = None


@dataclass
class Face:
    """One face track; without a score it has a reason."""

    id: int
    score: float | None
    reason: str | None
    start_s: float
    end_s: float
    boxes: list[FaceBox] = field(default_factory=list)


@dataclass
class Segment:
    """Scores of a stretch of time (about a second) by modality."""

    start_s: float
    end_s: float
    visual: float | None = None
    audio: float | None = None
    lipsync: float | None = None


@dataclass
class WeightsUsed:
    name: str
    role: str  # "visual" | "audio" | "lipsync" | "fusion" | "faces" …
    sha256: str | None
    licence: str | None


@dataclass
class Verdict:
    """All that is said of one file; the keys of `to_dict` never disappear.

    modalities: exactly `MODALITIES`; manipulated: the modalities judged manipulated by their own limits;
    thresholds: {"real_below", "fake_above"} on `score`; media: keys out of `MEDIA_FACTS`; bundle: keys out of
    `BUNDLE_FACTS`; timing_s: seconds by stage. Raises DataError for other keys.
    """

    path: str
    kind: str  # "video" | "audio" | "image"
    label: str
    score: float | None
    reason: str | None
    modalities: dict[str, Modality]
    faces: list[Face]
    segments: list[Segment]
    manipulated: list[str]
    thresholds: dict[str, float]
    media: dict[str, Any]
    weights: list[WeightsUsed]
    bundle: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    timing_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_keys("modalities", self.modalities, MODALITIES, MODALITIES)
        _check_keys("media", self.media, (), MEDIA_FACTS)
        _check_keys("bundle", self.bundle, (), BUNDLE_FACTS)
        _check_keys("thresholds", self.thresholds, ("real_below", "fake_above"), ("real_below", "fake_above"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: numpy becomes plain numbers and lists, NaN and infinity become None."""
        values = asdict(self)
        values["modalities"] = {name: values["modalities"][name] for name in MODALITIES}
        values["media"] = {name: values["media"].get(name) for name in MEDIA_FACTS}
        values["bundle"] = {name: values["bundle"].get(name) for name in BUNDLE_FACTS}
        return {"schema": SCHEMA, **_plain(values)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Inverse of `to_dict`. Raises DataError where the keys are not those of the schema."""
        rest = dict(values)
        if rest.pop("schema", None) != SCHEMA:
            found = values.get("schema")
            raise DataError(f"a verdict of schema {SCHEMA} was expected, found {found!r}: predict again")
        try:
            rest["modalities"] = {
                name: (LipSync if name == "lipsync" else Modality)(**value)
                for name, value in rest["modalities"].items()
            }
            rest["faces"] = [
                Face(**{**face, "boxes": [FaceBox(**box) for box in face["boxes"]]}) for face in rest["faces"]
            ]
            rest["segments"] = [Segment(**segment) for segment in rest["segments"]]
            rest["weights"] = [WeightsUsed(**weights) for weights in rest["weights"]]
            missing = {item.name for item in fields(cls)} - set(rest)
            if missing:
                raise TypeError(f"missing {', '.join(sorted(missing))}")
            return cls(**rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"this is not a verdict of schema {SCHEMA} ({error}): predict again") from error


def _check_keys(what: str, found: Mapping[str, Any], required: Sequence[str], known: Sequence[str]) -> None:
    if wrong := sorted((set(required) - set(found)) | (set(found) - set(known))):
        raise DataError(f"a verdict's {what} must have the keys {', '.join(known)}; check {', '.join(wrong)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@cache
def json_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of `Verdict.to_dict()`."""
    return json.loads(Path(__file__).with_name("verdict.schema.json").read_text(encoding="utf-8"))


def validate(values: Mapping[str, Any]) -> None:
    """Check a verdict's dictionary against the schema. Raises DataError that names the place."""
    try:
        from jsonschema import Draft202012Validator  # only the extra `test` brings it
    except ImportError as error:
        raise ConfigError('checking a verdict needs jsonschema: pip install "avdetect[test]"') from error
    fault = next(iter(sorted(Draft202012Validator(json_schema()).iter_errors(values), key=str)), None)
    if fault is not None:
        place = "/".join(map(str, fault.absolute_path)) or "the top level"
        raise DataError(f"not a valid verdict: at {place}, {fault.message}")


# --- words: the terminal and the HTML page say the same ---


def printable(text: str) -> str:
    """The text with control, direction-changing and undecodable characters escaped: names are hostile."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clock(seconds: float, decimals: int = 0) -> str:
    """m:ss, or h:mm:ss from an hour on, with so many decimals."""
    units = 10**decimals
    whole, part = divmod(round(seconds * units), units)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{text}.{part:0{decimals}d}" if decimals else text


def suspicious_spans(verdict: Verdict, modality: str) -> list[tuple[float, float]]:
    """(start_s, end_s) of runs of segments whose score lies above the fake threshold."""
    spans: list[tuple[float, float]] = []
    for segment in verdict.segments:
        if label_of(getattr(segment, modality), **verdict.thresholds) != "fake":
            continue
        if spans and segment.start_s - spans[-1][1] < 1e-6:
            spans[-1] = (spans[-1][0], segment.end_s)
        else:
            spans.append((segment.start_s, segment.end_s))
    return spans


def spans_text(spans: Sequence[tuple[float, float]]) -> str:
    """ "0:02-0:05, 0:09-0:10 and 3 more"; empty without spans."""
    text = ", ".join(f"{clock(start)}-{clock(end)}" for start, end in spans[:_SPANS_SHOWN])
    return f"{text} and {len(spans) - _SPANS_SHOWN} more" if len(spans) > _SPANS_SHOWN else text


def headline(verdict: Verdict) -> str:
    """The verdict in words that leave no room: a low score is not a certificate."""
    if verdict.label == "fake":
        parts = join_words([_PARTS_IN_TEXT[name] for name in verdict.manipulated])
        return "Likely manipulated" + (f": {parts}" if parts else "")
    if verdict.label == "real":
        return "No signs of manipulation found"
    if verdict.label == "uncertain":
        return "Cannot tell: the evidence is not clear either way"
    return f"Not judged: {verdict.reason or 'no reason was given'}"


def contradiction(verdict: Verdict) -> str | None:
    """A sentence where one part alone looks manipulated but the verdict over all of them does not say so."""
    if verdict.label == "fake" or not verdict.manipulated:
        return None
    parts = join_words([_PARTS_IN_TEXT[name] for name in verdict.manipulated])
    return f"Taken alone, {parts} would count as manipulated; all evidence together does not say so."


def score_sentence(verdict: Verdict) -> str:
    """How to read the number, with this detector's limits."""
    limits = verdict.thresholds
    return (
        "0 = like genuine media, 1 = like manipulated media. "
        f"Below {limits['real_below']:.2f}: no signs found; above {limits['fake_above']:.2f}: likely "
        "manipulated; between them: cannot tell."
    )


def modality_word(verdict: Verdict, name: str) -> str:
    """ "manipulated", "unclear", "no signs" or "not judged" for one modality."""
    score = verdict.modalities[name].score
    if label_of(score, **verdict.thresholds) == "unknown":
        return "not judged"
    if name in verdict.manipulated:
        return "manipulated"
    return "no signs" if score < verdict.thresholds["real_below"] else "unclear"


def offset_text(lipsync: LipSync) -> str:
    """ "sound 80 ms late (confidence 1.9)"; empty where the offset is not known."""
    if lipsync.offset_ms is None:
        return ""
    offset = round(lipsync.offset_ms)
    step = f"sound {abs(offset)} ms {'late' if offset > 0 else 'early'}"
    if abs(offset) <= _IN_STEP_MS:
        step = "sound in step with the lips" + (f" ({offset:+d} ms)" if offset else "")
    return step + (f", confidence {lipsync.confidence:.1f}" if lipsync.confidence is not None else "")


def join_words(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def one_line(verdict: Verdict) -> str:
    """Path, verdict and score on one line, plain text."""
    score = "" if verdict.score is None else f" (score {verdict.score:.2f})"
    return f"{printable(verdict.path)}: {printable(headline(verdict))}{score}"


def to_text(verdict: Verdict, width: int = 80) -> str:
    """What `render` shows, as plain text of at most `width` columns."""
    out = StringIO()
    render(verdict, Console(file=out, width=width, color_system=None, force_terminal=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def render(verdict: Verdict, console: Console) -> None:
    """Print the verdict with its evidence; file names and reasons are never read as markup."""
    style = _STYLES[verdict.label]
    console.print(Text(printable(verdict.path), style="bold", overflow="fold"))
    console.print(Padding(Text(printable(headline(verdict)), style=style), (0, 0, 0, 2)))
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    if verdict.score is not None:
        number = Text(_number(verdict.score), style=style)
        table.add_row("Score", number, Text(score_sentence(verdict), style="dim"))
    for name in MODALITIES:
        table.add_row(PARTS[name], _number(verdict.modalities[name].score), _modality_text(verdict, name))
    for face in verdict.faces if len(verdict.faces) > 1 else ():
        note = f"seen {clock(face.start_s)}-{clock(face.end_s)}"
        note += f"; not judged: {face.reason}" if face.score is None else ""
        table.add_row(f"Face {face.id}", _number(face.score), Text(printable(note)))
    notes = [("Note", contradiction(verdict)), *(("Warning", warning) for warning in verdict.warnings)]
    for title, note in notes:
        if note:
            table.add_row(title, "", Text(printable(note), style="yellow"))
    used = ", ".join(weights.name for weights in verdict.weights)
    terms = dict.fromkeys(
        weights.licence or "not stated" for weights in verdict.weights if weights.role != "faces"
    )
    detector = (
        f"{verdict.bundle.get('name') or 'unnamed'} ({used}); licence of its weights: {', '.join(terms)}"
    )
    table.add_row("Detector", "", Text(printable(detector), style="dim"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _number(score: float | None) -> str:
    return "-" if score is None or math.isnan(score) else f"{score:.2f}"


def _modality_text(verdict: Verdict, name: str) -> Text:
    modality, word = verdict.modalities[name], modality_word(verdict, name)
    if word == "not judged":
        return Text(printable(f"not judged: {modality.reason or 'no reason was given'}"))
    style = {"manipulated": "bold red", "no signs": "green", "unclear": "yellow"}[word]
    details = [offset_text(modality)] if isinstance(modality, LipSync) else []
    if spans := suspicious_spans(verdict, name):
        word += "" if name in verdict.manipulated else " overall"
        details.append(f"suspicious at {spans_text(spans)}")
    return Text.assemble((word, style), *(f"; {detail}" for detail in details if detail))
