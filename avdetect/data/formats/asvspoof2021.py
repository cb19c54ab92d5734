"""ASVspoof 2021 LA (logical access, transmitted) and DF (compressed): evaluation sets, all of them test.

    keys/{LA,DF}/CM/trial_metadata.txt           from {LA,DF}-keys-full.tar.gz; labels and meta-labels
    ASVspoof2021_{LA,DF}_eval/flac/<utterance>.flac
    ASVspoof2021_{LA,DF}_eval/ASVspoof2021.{LA,DF}.cm.eval.trl.txt   utterance ids, nothing else

A line of the keys is, by the publisher's evaluation package (LA has 8 fields, DF 13):

    LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval
    LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -

The subset (`progress`, `eval`, `hidden`) is in the column `phase`; published numbers are those of `eval`.
Without the keys the trials of the list have no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest, class_counts
from avdetect.data.textfiles import read_lines
from avdetect.errors import DataError

METADATA = "trial_metadata.txt"
PHASES = ("progress", "eval", "hidden")
COMMON = ("subject", "utterance", "quality", None, "method", "key", "trim", "phase")


@dataclass(frozen=True)
class Track:
    """What differs between LA and DF."""

    name: str
    columns: tuple[str, ...]  # of a line of the keys
    genuine: int  # bona fide trials of the evaluation subset
    fake: int

    @property
    def dataset(self) -> str:
        return f"ASVspoof2021 {self.name}"

    @property
    def folder(self) -> str:
        return f"ASVspoof2021_{self.name}_eval"


TRACKS = {
    "LA": Track("LA", (*COMMON[:3], "transmission", *COMMON[4:]), 14_816, 133_360),
    # The last four are of the Voice Conversion Challenges: task, team, genders of the pair, language.
    "DF": Track(
        "DF",
        (
            *COMMON[:3],
            "corpus",
            *COMMON[4:],
            "vocoder",
            "vcc_task",
            "vcc_team",
            "vcc_genders",
            "vcc_language",
        ),
        14_869,
        519_059,
    ),
}


def _first_file(places: list[Path]) -> Path | None:
    """The first that is there, as it is or gzipped."""
    both = (file for place in places for file in (place, place.with_name(f"{place.name}.gz")))
    return next((file for file in both if file.is_file()), None)


def _keys(root: Path, track: Track) -> Path | None:
    """File with the keys of a track; one in the root itself must name its utterances."""
    below = (
        ("keys", track.name, "CM"), (f"{track.name}-keys-full", "keys", track.name, "CM"), (track.name, "CM"),
    )  # fmt: skip
    found = _first_file([root.joinpath(*parts, METADATA) for parts in below])
    if found is None and (file := _first_file([root / METADATA, root / "CM" / METADATA])) is not None:
        fields = next(read_lines(file), (0, ""))[1].split()
        return file if len(fields) > 1 and fields[1].startswith(f"{track.name}_E_") else None
    return found


def _trial_list(root: Path, track: Track) -> Path | None:
    name = f"ASVspoof2021.{track.name}.cm.eval.trl.txt"
    folders = (root / track.folder, root)
    protocols = f"ASVspoof2021_{track.name}_cm_protocols"
    return _first_file([place for folder in folders for place in (folder / name, folder / protocols / name)])


def _fields(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for number, line in read_lines(file):
        fields = line.split()
        row = dict(zip(columns, fields, strict=False))
        if (
            len(fields) != len(columns)
            or row.get("key", "spoof") not in ("bonafide", "spoof")
            or row.get("phase", "eval") not in PHASES
        ):
            expected = f"`{' '.join(columns)}` with bonafide|spoof and {'|'.join(PHASES)}"
            if "key" not in columns:
                expected = "an utterance alone"
            raise DataError(f"{file} line {number}: expected {expected}, found {line!r}")
        rows.append(fields)
    return pd.DataFrame(rows, columns=list(columns), dtype="string")


def _read(root: Path, track: Track) -> Manifest:
    keys, trials = _keys(root, track), _trial_list(root, track)
    if keys is None and trials is None:
        raise DataError(f"{root} has no trials of {track.dataset}: expected {_accepts(track)}")
    notes = []
    if keys is not None:
        table = _fields(keys, track.columns)
        label = (table.pop("key") == "spoof").astype("Int64")
        # Bona fide trials have `-` or `bonafide` where others have the attack and the vocoder.
        extra = [c for c in table if c not in ("subject", "utterance", "quality", "trim", "phase")]
        table[extra] = table[extra].replace({"-": pd.NA, "bonafide": pd.NA})
        counts = class_counts(label[table["phase"] == "eval"])
        if (counts["genuine"], counts["fake"]) != (track.genuine, track.fake):
            notes.append(
                f"{track.dataset}: {counts['genuine']} bona fide and {counts['fake']} spoofed trials in the "
                f"phase eval, where the publisher has {track.genuine} and {track.fake}"
            )
        others = int((table["phase"] != "eval").sum())
        if others:
            notes.append(
                f"{track.dataset}: {others} trials of the phases progress and hidden are in the split test "
                "too; published numbers are those of `phase == 'eval'`"
            )
    else:
        table = _fields(trials, ("utterance",))
        label = pd.Series(pd.NA, index=table.index, dtype="Int64")
        notes.append(
            f"{track.dataset}: {len(table)} trials without labels, as there is no keys/{track.name}/CM/"
            f"{METADATA}: get {track.name}-keys-full.tar.gz from asvspoof.org to evaluate"
        )
    inside = root.name == track.folder and not (root / track.folder).is_dir()
    folder = "flac/" if inside else f"{track.folder}/flac/"
    table = table.assign(
        path=folder + table["utterance"] + ".flac", kind="audio", label=label, audio_label=label,
        split="test", source=table["utterance"], dataset=track.dataset,
    )  # fmt: skip
    return Manifest(table, root=root, name=track.dataset, notes=notes)


def _accepts(track: Track) -> str:
    return (
        f"keys/{track.name}/CM/{METADATA} (labels) or {track.folder}/"
        f"ASVspoof2021.{track.name}.cm.eval.trl.txt (no labels), and {track.folder}/flac/*.flac"
    )


def _format(name: str) -> DatasetFormat:
    track = TRACKS[name]
    return DatasetFormat(
        name=f"asvspoof2021_{name.lower()}",
        accepts=_accepts(track),
        detect=lambda root: _keys(root, track) is not None or _trial_list(root, track) is not None,
        read=lambda root, seed=0: _read(root, track),
    )


LA = _format("LA")
DF = _format("DF")
