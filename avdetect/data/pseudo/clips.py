"""Whole prepared clips with one part manipulated, or face and voice together.

A copy is made from the stored arrays of a genuine prepared clip and stored as that clip is, so that the two
differ in the manipulation alone. It keeps the split, source and subject of its clip; `method` is
`pseudo:PART KIND` ("pseudo:face and voice" for both), `made_of` the key of the genuine clip, `made_by` how, and
`made_with` the key of the other clip that was needed, if one was.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from avdetect.data.loaders import cut
from avdetect.data.manifest import Manifest
from avdetect.data.prepare import RECORD, PreparedSet
from avdetect.data.pseudo import faces, lips, voices
from avdetect.data.pseudo.face_autoencoder import load_generators as load_face_generators
from avdetect.data.pseudo.vocoders import load_generators as load_voice_generators
from avdetect.data.workers import run_in_workers
from avdetect.errors import AvdetectError, DataError
from avdetect.evidence import MIN_SYNC_FRAMES
from avdetect.media import Clip, load_clip, save_clip

PARTS = {"face": "visual", "voice": "audio", "lips": "lipsync"}  # and the modality that sees it
METHOD = "pseudo:"
BOTH = "face and voice"
VOICE_NEEDS = {"neural": "generators"}
ALIKE_PX = 16  # side at which poses are compared

Drawn = dict[str, str]  # part -> kind


@dataclass(frozen=True)
class Task:
    """One copy to make: of which file, how, with which other file, and where it goes."""

    key: str
    made_by: str
    source: str
    other: str | None
    target: str
    seed: int


def possible(rows: pd.DataFrame, modalities: Iterable[str]) -> pd.DataFrame:
    """Per row of a prepared set whether its face, voice and lips can be manipulated and then be judged.

    Lips need a clip of one face: where two are seen, the other one may be the speaker.
    """
    sound = rows["has_audio"].fillna(False).astype(bool)
    lone = rows["tracks"].eq(1) & rows["mouths"].ge(MIN_SYNC_FRAMES)
    table = pd.DataFrame({"face": rows["crops"].gt(0), "voice": sound, "lips": sound & lone})
    used = [PARTS[part] in set(modalities) for part in PARTS]
    return table.fillna(False).astype(bool) & used


def plan_copies(
    rows: pd.DataFrame, modalities: Iterable[str], count: int, seed: int, generators: Iterable[str] = ()
) -> Manifest:
    """Copies of up to `count` genuine clips, one of each manipulation that a clip allows.

    Clips that allow most come first, by chance among equals; of the kinds that a clip allows, the one that was
    taken least. `rows`: genuine rows of one split of a prepared set; `generators`: parts ("face", "voice") for
    which there are trained networks. Raises DataError where no clip allows any manipulation.
    """
    rows = rows.sort_values("key").reset_index(drop=True)
    can = possible(rows, modalities)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows))
    order = order[np.argsort(-can.sum(axis=1).to_numpy()[order], kind="stable")][:count]
    order = order[can.any(axis=1).to_numpy()[order]]
    if not len(order):
        raise DataError(
            f"none of {len(rows)} genuine clips has what fakes for {', '.join(modalities)} are made of: a face, a "
            "voice, or one talking face; see prepared.csv, or choose other modalities"
        )
    kinds = _Kinds(rows, set(generators), rng)
    told = [c for c in rows if c in ("path", "root") or (c not in RECORD and c != "truth")]
    made = []
    for place in order:
        allowed = can.loc[place]
        wanted = [(part,) for part in PARTS if allowed[part]]
        wanted += [("face", "voice")] if allowed["face"] and allowed["voice"] else []
        for parts in wanted:
            drawn, other = kinds.draw(place, parts)
            made.append(_copy_row(rows.loc[place], told, drawn) | {"made_with": other})
    return Manifest(pd.DataFrame(made), name="manipulated copies")


class _Kinds:
    """Draws kinds of manipulation for the clips of a split so that all are about equally frequent."""

    def __init__(self, rows: pd.DataFrame, generators: set[str], rng: np.random.Generator):
        self.rows, self.generators, self.rng = rows, generators, rng
        self.taken: Counter = Counter()
        self.seen = rows["crops"].gt(0).fillna(False).to_numpy(bool)
        self.heard = rows["has_audio"].fillna(False).to_numpy(bool)

    def draw(self, place: int, parts: tuple[str, ...]) -> tuple[Drawn, str | None]:
        """The kind of each part, and the key of another clip where one is needed."""
        others = self._others(place)
        drawn = {part: self._least_taken(part, self._able(part, place, others)) for part in parts}
        needs = {("face", "identity"): "face", ("lips", "speaker"): "voice", ("lips", "moment"): "moment"}
        for step in drawn.items():
            if (need := needs.get(step)) and others[need].any():
                return drawn, self.rows["key"].iloc[int(self.rng.choice(np.flatnonzero(others[need])))]
        return drawn, None

    def _able(self, part: str, place: int, others: dict[str, np.ndarray]) -> list[str]:
        if part == "lips":
            frames = int(self.rows["mouths"].iloc[place])
            return lips.kinds_for(frames, others["voice"].any(), others["moment"].any())
        module, needs = (faces, faces.NEEDS) if part == "face" else (voices, VOICE_NEEDS)
        there = {"partner": others["face"].any(), "generators": part in self.generators}
        return [kind for kind in module.KINDS if kind not in needs or there[needs[kind]]]

    def _least_taken(self, part: str, kinds: list[str]) -> str:
        fewest = min(self.taken[part, kind] for kind in kinds)
        kind = str(self.rng.choice([kind for kind in kinds if self.taken[part, kind] == fewest]))
        self.taken[part, kind] += 1
        return kind

    def _others(self, place: int) -> dict[str, np.ndarray]:
        """(N,) which clips show the face, and hold the voice, of other people, and the same one's at another time."""
        stranger, same = np.ones(len(self.rows), bool), np.zeros(len(self.rows), bool)
        for column in ("source", "subject"):
            own = self.rows[column].iloc[place]
            if pd.notna(own):
                equal = self.rows[column].eq(own).fillna(False).to_numpy(bool)
                stranger, same = stranger & ~equal, same | equal
        stranger[place] = same[place] = False
        return {"face": stranger & self.seen, "voice": stranger & self.heard, "moment": same & self.heard}


def _copy_row(row: pd.Series, told: list[str], drawn: Drawn) -> dict[str, Any]:
    """The manifest's row of a copy; `told`: the columns that it shares with its clip."""
    made_by = ", ".join(f"{part} {kind}" for part, kind in drawn.items())
    return row[told].to_dict() | {
        "path": f"{row['path']}#{made_by.replace(', ', '+').replace(' ', '-')}",
        "label": 1,
        "visual_label": int("face" in drawn) if row["crops"] > 0 else pd.NA,
        "audio_label": int("voice" in drawn) if row["has_audio"] else pd.NA,
        # Redrawn mouths move, and copied voices sound, when those that they were made of did.
        "sync_label": int("lips" in drawn),
        "fake_periods": pd.NA,  # it is fake from end to end, whatever its clip tells
        "method": METHOD + (made_by if len(drawn) == 1 else BOTH),
        "made_of": row["key"],
        "made_by": made_by,
    }


def write_copies(
    prepared: PreparedSet,
    plan: Manifest,
    folder: Path,
    seed: int,
    generators: Mapping[str, Path | None],
    workers: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the clips of a plan into `folder`; those that are there already are left as they are.

    `generators`: per part "face" and "voice" the folder of trained networks, or None; `report` is told after
    every clip how many of how many there are. Raises DataError, with its clip, for one that cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [task for task in _tasks(prepared, plan, folder, seed) if not Path(task.target).exists()]
    done = len(plan) - len(tasks)
    make_work = partial(_make_work, dict(generators), workers > 0)
    for task, failure, death in run_in_workers(tasks, make_work, workers):
        if failure or death:
            raise DataError(f"{task.key} could not be made of {task.source}: {failure or death}")
        done += 1
        report(done, len(plan))


def with_copies(prepared: PreparedSet, plans: Mapping[Path, Manifest]) -> PreparedSet:
    """A prepared set together with copies of its clips: per folder that they were written to, their plan."""
    tables = [prepared.table]
    records = prepared.table.set_index("key")[[c for c in RECORD if c not in ("key", "path", "root")]]
    for folder, plan in plans.items():
        absent = sorted(set(plan.table["made_of"]) - set(records.index))
        if absent:
            raise DataError(
                f"{folder} holds copies of {absent[0]}, which is not prepared: delete that folder"
            )
        own = records.loc[plan.table["made_of"]].reset_index(drop=True)
        table = pd.concat([plan.table.reset_index(drop=True), own], axis=1).assign(key=plan.keys.to_numpy())
        files = [str((folder / _file_name(key)).resolve()) for key in plan.keys]
        tables.append(table.assign(file=pd.array(files, dtype="string")))
    return PreparedSet(prepared.folder, prepared.settings, pd.concat(tables, ignore_index=True))


def manipulate(
    clip: Clip,
    made_by: str,
    rng: np.random.Generator,
    face_generators: Any = None,
    voice_generators: Any = None,
    other: Clip | None = None,
) -> Clip:
    """A copy of `clip` as `made_by` says: `PART KIND`, several joined by commas.

    The face is that of the most prominent track with crops; its mouths change with it where the kind replaces
    the mouth. `other`: the clip that some kinds take a face or a sound from. Raises DataError where the clip lacks
    the part.
    """
    for step in made_by.split(", "):
        part, _, kind = step.partition(" ")
        if part == "face":
            clip = _other_face(clip, kind, rng, face_generators, other)
        elif part == "voice":
            clip = _other_voice(clip, kind, rng, voice_generators)
        elif part == "lips":
            clip = _out_of_sync(clip, kind, rng, other)
        else:
            raise DataError(f"a clip has no part {part!r}: one of {', '.join(PARTS)}")
    return clip


def _other_face(clip: Clip, kind: str, rng: np.random.Generator, generators: Any, other: Clip | None) -> Clip:
    place = next((i for i, track in enumerate(clip.tracks) if len(track.crops)), None)
    if place is None:
        raise DataError(f"{clip.path} shows no face that could be manipulated")
    track = clip.tracks[place]
    partner = None if other is None else _most_alike(track.crops[0], other)
    crops, _, _ = faces.fake_face(track.crops, rng, kind=kind, generators=generators, partner=partner)
    changed = replace(track, crops=crops)
    if kind == "mouth" and len(track.mouths):
        changed = replace(changed, mouths=faces.fake_mouths(track.mouths, rng))
    return replace(clip, tracks=[changed if i == place else t for i, t in enumerate(clip.tracks)])


def _most_alike(crop: np.ndarray, other: Clip) -> np.ndarray:
    """The crop of another clip whose coarse picture correlates most with `crop`: light and pose come near."""
    crops = np.concatenate([track.crops for track in other.tracks])
    coarse = [
        cv2.resize(one, (ALIKE_PX, ALIKE_PX), interpolation=cv2.INTER_AREA).mean(2).ravel()
        for one in (crop, *crops)
    ]
    return crops[int(np.corrcoef(coarse)[0, 1:].argmax())]


def _other_voice(clip: Clip, kind: str, rng: np.random.Generator, generators: Any) -> Clip:
    if clip.audio is None or not clip.audio.size:
        raise DataError(f"{clip.path} has no sound that could be manipulated")
    audio, _ = voices.fake_voice(clip.audio, clip.settings.sample_rate, rng, kind=kind, generators=generators)
    return replace(clip, audio=audio)


def _out_of_sync(clip: Clip, kind: str, rng: np.random.Generator, other: Clip | None) -> Clip:
    """The lips or the sound during them changed; what is heard before and after stays."""
    if len(clip.tracks) != 1 or len(clip.tracks[0].mouths) < MIN_SYNC_FRAMES or clip.audio is None:
        raise DataError(f"{clip.path} has no single talking face that could be put out of sync")
    (track,) = clip.tracks
    per_frame = round(clip.settings.sample_rate / clip.settings.grid_fps)
    first = track.mouth_start * per_frame
    during = cut(first, len(track.mouths) * per_frame, clip.audio)
    sound = {"speaker": "foreign", "moment": "elsewhere"}.get(kind)
    given = {sound: other.audio} if sound and other is not None else {}
    mouths, heard, _ = lips.out_of_sync(track.mouths, during, per_frame, rng, kind=kind, **given)
    audio = clip.audio.copy()
    part = audio[first : first + len(heard)]
    part[:] = heard[: len(part)]
    return replace(clip, tracks=[replace(track, mouths=mouths)], audio=audio)


def load_generators(folders: Mapping[str, Path | None]) -> dict[str, Any]:
    """What `manipulate` takes, from the folders of trained networks of "face" and "voice"; None where there is none."""
    face, voice = folders.get("face"), folders.get("voice")
    return {
        "face_generators": face and load_face_generators(face),
        "voice_generators": voice and load_voice_generators(voice),
    }


def _tasks(prepared: PreparedSet, plan: Manifest, folder: Path, seed: int) -> Iterator[Task]:
    files = dict(zip(prepared.table["key"], prepared.table["file"], strict=True))

    def path(key: str) -> str:
        return str(prepared.clip_path({"file": files[key]}))

    for key, (_, row) in zip(plan.keys, plan.table.iterrows(), strict=True):
        drawn = int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8])
        other = path(row["made_with"]) if pd.notna(row["made_with"]) else None
        target = str(folder / _file_name(key))
        yield Task(key, row["made_by"], path(row["made_of"]), other, target, drawn)


def _file_name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32] + ".npz"


def _make_work(folders: dict[str, Path | None], one_thread: bool) -> Callable[[Task], str]:
    """What a worker does with one task; the answer says why it failed, and is empty where it did not."""
    if one_thread:
        import torch

        torch.set_num_threads(1)
    generators = load_generators(folders)

    def work(task: Task) -> str:
        try:
            clip, other = (name and load_clip(name) for name in (task.source, task.other))
            made = manipulate(clip, task.made_by, np.random.default_rng(task.seed), **generators, other=other)
            save_clip(made, task.target)
        except AvdetectError as error:
            return str(error)
        return ""

    return work
