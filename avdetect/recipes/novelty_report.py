"""What a detector does with inputs that it was not made for: `python -m avdetect.recipes.novelty_report`.

    python -m avdetect.recipes.novelty_report data.root=MANIFEST bundle=FOLDER out=FOLDER

Strange faces are made of the genuine faces of the split, strange sounds from nothing (`avdetect.data.novel_faces`,
`novel_sounds`), rendered heads come from the demo set. Beside them stand the clips of the split as they are, by
dataset and class, and degraded: these ought to be judged. Of each kind: how many are judged, refused and doubted, and
how many a detector that judges everything would call real or fake with certainty. Nothing is fitted or chosen;
`split=test` opens the test split. In `out`: `novelty.json`, `novelty.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from avdetect.data import Manifest
from avdetect.data.demo.miniature import SUBJECTS, Miniature
from avdetect.data.guard import TEST, check_split, open_test_data
from avdetect.data.novel_faces import FACES
from avdetect.data.novel_sounds import SOUNDS, babble
from avdetect.errors import AvdetectError, ConfigError, MediaError
from avdetect.evidence import MODALITIES, collect_evidence
from avdetect.inference import Bundle, find_bundle, load_bundle
from avdetect.inference.novelty import Screened
from avdetect.inference.scoring import calibrated_scores, fused_logits, screened, verdict_label
from avdetect.media import Clip, FaceTrack, read_clip
from avdetect.recipes.run_folder import write_json
from avdetect.transforms.degrade import degrade

SCHEMA = "avdetect.novelty_report/1"
STRANGE, USUAL = "strange", "usual"
SHARES = ("refused", "doubted", "sure", "sure_before")  # columns of the printed table
LENGTHS_S = (1.2, 3.0, 6.0)  # of strange sounds
SMALL_PX = (20, 30, 40)  # longer side of faces too small to tell
DEGRADED = {
    "visual": (("h264", 35), ("jpeg", 30), ("resize", 96), ("blur", 2), ("image_noise", 10), ("gamma", 0.6),
               ("gamma", 1.7)),
    "audio": (("mulaw", 8), ("mp3", 24), ("opus", 12), ("reverb", 0.7), ("sound_noise", 10)),
}  # fmt: skip
SHORT_S, QUIET = 1.2, 0.03


@dataclass
class DataSettings:
    root: str = MISSING  # manifest
    where: str | None = None  # pandas query on the manifest's columns
    face_crops: list[str] = field(
        default_factory=lambda: ["DFDC faces", "MesoNet"]
    )  # pictures that are crops


@dataclass
class Settings:
    data: DataSettings = field(default_factory=DataSettings)
    bundle: str = MISSING  # folder, `builtin` or `latest`
    out: str = MISSING
    split: str = "val"
    clips: int = 60  # of each dataset and class, and most of each kind
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """A clip of which one modality is asked about."""

    group: str  # STRANGE | USUAL
    modality: str
    kind: str
    clip: Clip


def measure(settings: Settings) -> pd.DataFrame:
    """One row per modality, group and kind: n, and shares (0 to 1) judged, refused, doubted, sure and sure_before.

    judged: the modality has a score; sure: the verdict is real or fake; sure_before: it were without novelty.
    """
    bundle = load_bundle(find_bundle(settings.bundle))
    with open_test_data() if settings.split == TEST else nullcontext():
        clips = read_clips(settings, bundle)
    rows = [outcome(bundle, case) for case in cases(clips, bundle, settings)]
    table = pd.DataFrame(rows).dropna(subset=["judged"])
    grouped = table.groupby(["modality", "group", "kind"], sort=False)
    shares = grouped[["judged", "refused", "doubted", "sure", "sure_before"]].mean()
    return shares.assign(n=grouped.size()).reset_index()


def outcome(bundle: Bundle, case: Case) -> dict[str, Any]:
    """What becomes of a case; NaN where there was nothing to judge in the first place."""
    evidence = collect_evidence(case.clip, bundle.encoders)
    before, after = Screened(evidence), screened(bundle, evidence)
    found = {"modality": case.modality, "group": case.group, "kind": case.kind}
    scores = {}
    for name, part in (("before", before), ("after", after)):
        logits = {
            key: float(values[0]) for key, values in fused_logits(bundle.fusion, [part.evidence]).items()
        }
        scores[name] = calibrated_scores(bundle, logits)
        scores[name]["label"] = verdict_label(bundle, part, scores[name])
    if scores["before"][case.modality] is None:
        return found | {"judged": np.nan}
    judged = scores["after"][case.modality] is not None
    return found | {
        "judged": float(judged),
        "refused": float(not judged),
        "doubted": float(judged and case.modality in after.doubts),
        "sure": float(scores["after"]["label"] in ("real", "fake")),
        "sure_before": float(scores["before"]["label"] in ("real", "fake")),
    }


# -- clips ----------------------------------------------------------------------------------------------------


def read_clips(settings: Settings, bundle: Bundle) -> list[tuple[pd.Series, Clip]]:
    """(manifest row, clip) of the split, at most `clips` of each dataset and class; unreadable ones are left out."""
    manifest = Manifest.read(settings.data.root)
    if settings.data.where:
        manifest = manifest.where(settings.data.where)
    check_split([settings.split])
    table = manifest.table[manifest.table["split"] == settings.split]
    if table.empty:
        raise ConfigError(f"{settings.data.root} has no clip of the {settings.split} split: name another")
    chosen = table.sample(frac=1, random_state=settings.seed)
    chosen = chosen.groupby(["dataset", "label"], dropna=False).head(settings.clips).sort_index()
    found = []
    for _, row in chosen.iterrows():
        pictures = "face" if row["dataset"] in settings.data.face_crops else "search"
        try:
            found.append((row, read_clip(manifest.file_of(row), replace(bundle.clip, pictures=pictures))))
        except MediaError as error:
            print(error, file=sys.stderr)
    return found


def cases(clips: list[tuple[pd.Series, Clip]], bundle: Bundle, settings: Settings) -> Iterator[Case]:
    rng = np.random.default_rng(settings.seed)
    genuine = [clip for row, clip in clips if row["label"] == 0]
    faces = _some([clip for clip in genuine if clip.tracks], settings.clips, rng)
    voices = _some([clip for clip in genuine if clip.audio is not None], settings.clips, rng)
    for row, clip in clips:
        kind = f"{row['dataset']}, {'genuine' if row['label'] == 0 else 'fake'}"
        for name, there in (("visual", bool(clip.tracks)), ("audio", clip.audio is not None)):
            if there and name in bundle.encoders:
                yield Case(USUAL, name, kind, face_only(clip) if name == "visual" else sound_only(clip))
    if "visual" in bundle.encoders:
        yield from face_cases(faces, settings, rng)
    if "audio" in bundle.encoders:
        yield from sound_cases(voices, settings, rng)


def _some(clips: list[Clip], count: int, rng: np.random.Generator) -> list[Clip]:
    return [clips[index] for index in sorted(rng.permutation(len(clips))[:count])]


def face_only(clip: Clip) -> Clip:
    return replace(clip, tracks=clip.tracks[:1], audio=None, kind="image")


def sound_only(clip: Clip, audio: np.ndarray | None = None) -> Clip:
    return replace(clip, tracks=[], audio=clip.audio if audio is None else audio, kind="audio")


def face_cases(clips: list[Clip], settings: Settings, rng: np.random.Generator) -> Iterator[Case]:
    """Degraded and strange versions of one face a clip, and the heads of the demo set."""
    for number, clip in enumerate(clips):
        whole = face_only(clip)
        for name, strength in DEGRADED["visual"]:
            yield Case(USUAL, "visual", f"{name} {strength:g}", degrade(whole, name, strength, clip.path))
        grey = np.repeat(whole.tracks[0].crops.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
        yield Case(USUAL, "visual", "grey", _with_crops(whole, grey))
        crop = whole.tracks[0].crops[:1]
        for name, make in FACES.items():
            yield Case(STRANGE, "visual", name, _with_crops(whole, make(crop[0], rng)[None]))
        for side in SMALL_PX:
            yield Case(STRANGE, "visual", f"{side} pixels high", shrunk(whole, side))
        if number < SUBJECTS * 4:
            yield Case(
                STRANGE, "visual", "rendered head", _with_crops(whole, _rendered(number, crop.shape[1]))
            )


def _with_crops(clip: Clip, crops: np.ndarray) -> Clip:
    """The clip with these crops of its face, in place of the first of its own."""
    track: FaceTrack = clip.tracks[0]
    return replace(clip, tracks=[replace(track, crops=crops, crop_times=track.crop_times[: len(crops)])])


def shrunk(clip: Clip, side: int) -> Clip:
    """The clip as if its face were `side` pixels high in the file."""
    reach = 1 + 2 * clip.settings.crop_margin
    small = degrade(clip, "resize", max(8, round(side * reach)), clip.path)
    track = small.tracks[0]
    sides = (track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1)[:, None]
    return replace(small, tracks=[replace(track, boxes=track.boxes * (side / sides))])


def _rendered(number: int, side: int) -> np.ndarray:
    """(1, side, side, 3) of a head of the demo set."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = _RENDERER.image(
            Path(folder) / "head.png", number % SUBJECTS, bool(number // SUBJECTS % 2), side
        )
        return np.asarray(Image.open(path).convert("RGB"))[None]


_RENDERER = Miniature()


def sound_cases(clips: list[Clip], settings: Settings, rng: np.random.Generator) -> Iterator[Case]:
    """Degraded versions of one voice a clip, strange sounds, and crowds of the voices."""
    for clip in clips:
        whole, rate = sound_only(clip), clip.settings.sample_rate
        for name, strength in DEGRADED["audio"]:
            yield Case(USUAL, "audio", f"{name} {strength:g}", degrade(whole, name, strength, clip.path))
        start = int(rng.integers(max(1, len(whole.audio) - round(SHORT_S * rate))))
        short = np.asarray(whole.audio)[start : start + round(SHORT_S * rate)]
        yield Case(USUAL, "audio", f"{SHORT_S:g} s", sound_only(whole, short))
        yield Case(
            USUAL, "audio", "30 dB quieter", sound_only(whole, np.asarray(whole.audio) * np.float32(QUIET))
        )
        length = round(rate * LENGTHS_S[rng.integers(len(LENGTHS_S))])
        for name, make in SOUNDS.items():
            yield Case(STRANGE, "audio", name, sound_only(whole, make(length, rate, rng)))
        voices = [np.asarray(other.audio) for other in clips if len(other.audio)]
        yield Case(STRANGE, "audio", "babble", sound_only(whole, babble(voices, length, rng)))


# -- the table ------------------------------------------------------------------------------------------------


def markdown(table: pd.DataFrame) -> str:
    """One table per modality and group, shares in per cent."""
    lines = []
    titles = {
        STRANGE: "strange inputs (ought to be refused)",
        USUAL: "clips of the split and degraded ones (ought to be judged)",
    }
    names = {"visual": "Face", "audio": "Voice"}
    for modality in (name for name in MODALITIES if name in set(table["modality"])):
        for group in (USUAL, STRANGE):
            part = table[(table["modality"] == modality) & (table["group"] == group)]
            lines += [f"{names[modality]}: {titles[group]}", ""]
            lines += ["| kind | n | refused | doubted | called real or fake | without this check |"]
            lines += ["|---|---|---|---|---|---|"]
            for row in part.itertuples():
                shares = (row.refused, row.doubted, row.sure, row.sure_before)
                lines.append(
                    f"| {row.kind} | {row.n} | " + " | ".join(f"{100 * x:.0f} %" for x in shares) + " |"
                )
            means = [np.average(part[name], weights=part["n"]) for name in SHARES]
            lines += [
                f"| all | {part['n'].sum()} | " + " | ".join(f"{100 * x:.1f} %" for x in means) + " |",
                "",
            ]
    return "\n".join(lines)


def report(arguments: list[str]) -> None:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Settings), OmegaConf.from_dotlist(arguments))
        settings: Settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the settings cannot be read ({str(error).splitlines()[0]})") from error
    table, out = measure(settings), Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    asked = OmegaConf.to_container(merged)
    write_json(out / "novelty.json", {"schema": SCHEMA, "settings": asked, "rows": table.to_dict("records")})
    text = markdown(table)
    (out / "novelty.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def main() -> None:
    try:
        report(sys.argv[1:])
    except AvdetectError as error:
        print(f"novelty_report: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
