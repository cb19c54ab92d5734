"""`avdetect embeddings`: where a detector's encoders place the clips of a set, to look at and listen to.

The output folder: `embeddings.parquet` (a row a clip and encoder), `plots/`, `embeddings.html`, and what is worked
out between, from which a killed run goes on: `prepared/` and `journal.jsonl`. Nothing is fitted or chosen here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from avdetect.data import Manifest
from avdetect.data.guard import check_split
from avdetect.data.prepare import PreparedSet, prepare
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.plots import grouped, plot_projections, project
from avdetect.evaluation.plots.embeddings import MIN_POINTS, PROJECTIONS, Group, Projection
from avdetect.evidence import MODALITIES
from avdetect.inference import Bundle, load_bundle
from avdetect.scan.clip_scores import EMBEDDED, Options, clip_settings, score_manifest
from avdetect.scan.lock import only_writer
from avdetect.scan.point_media import face_uri, sound_uri
from avdetect.scan.score_tables import clip_table, embedding_table
from avdetect.scan.test_sets import TestSet, grouping_columns, read_test_sets

Say = Callable[[str], None]


@dataclass
class EmbeddingMap:
    """The clips that one encoder has judged, in the plane.

    table: a row a clip, as `embeddings.parquet` has it; projections and groups (by the column that they are of) are
    in its order; faces, sounds: a data: URI a row, or None where the encoder looks at no face or hears nothing.
    """

    modality: str
    table: pd.DataFrame
    projections: dict[str, Projection]
    groups: dict[str, list[Group]]
    faces: list[str | None]
    sounds: list[str | None]
    pictures: dict[str, Path]  # column -> PNG


@dataclass
class EmbeddingMaps:
    """All maps of a set of clips."""

    set: TestSet
    bundle: Bundle
    maps: list[EmbeddingMap]
    unread: int  # clips that could not be read
    command: list[str]  # that shows the same


def map_embeddings(
    bundle: str | Path,
    data: str | Path,
    out: str | Path,
    split: str = "val",
    modalities: Sequence[str] = (),
    by: Sequence[str] = ("label", "method"),
    methods: Sequence[str] = PROJECTIONS,
    limit: int = 500,
    workers: int = 2,
    prepared: str | Path | None = None,
    pictures: str | None = None,
    seed: int = 0,
    progress: bool = False,
    say: Say = lambda line: None,
) -> EmbeddingMaps:
    """Judge clips and project their embeddings; writes `embeddings.parquet` and the PNGs, not the page.

    bundle: the detector's folder; data: a manifest or a dataset's folder; modalities: of the detector's, none = all;
    by: columns of the manifest to colour by; methods: of `PROJECTIONS`; limit: clips at most, drawn as good as at
    random, the same ones every time; prepared: folder of `avdetect data prepare`, added to (default: below `out`);
    pictures: as in `ClipSettings`; progress: of the preparation, on stderr. Raises DataError where test clips are
    asked for while the test split is closed (`data.guard`), and where no encoder judges 8 clips.
    """
    out, options = Path(out), Options(pictures=pictures)
    loaded = load_bundle(bundle)
    wanted = _wanted(loaded, modalities)
    if not 1 <= limit <= EMBEDDED:
        raise ConfigError(f"a map of {limit} clips was asked for: it has 1 to {EMBEDDED}")
    (one,) = read_test_sets([data], split, seed)
    check_split(one.manifest.table["split"].unique())
    one.manifest = _drawn(one, limit)
    with only_writer(out):
        ready = prepare(
            one.manifest, prepared or out / "prepared", clip_settings(loaded, options), workers, progress
        )
        records = score_manifest(
            one.manifest, loaded, options, out / "journal.jsonl", workers, ready,
            lambda done, total: say(f"{one.name}: {done} of {total} clips"),
        )  # fmt: skip
        table = clip_table(one.manifest, records, loaded)
        columns = grouping_columns(by, table, one)
        vectors = embedding_table(records)
        media = _Media(ready, {record["key"]: record.get("tracks", {}) for record in records})
        maps = []
        for name in _with_enough(wanted, vectors, one):
            say(f"{name}: projecting {len(vectors[name])} clips")
            maps.append(_map(name, vectors[name], table, columns, methods, media, seed, out / "plots"))
        if not maps:
            raise DataError(f"there is nothing to draw of {one.path}: " + "; ".join(one.warnings))
        part = out / ".embeddings.parquet.part"
        pd.concat([one.table for one in maps], ignore_index=True).to_parquet(part, index=False)
        os.replace(part, out / "embeddings.parquet")
    command = [
        "avdetect", "embeddings", str(bundle), "--data", str(data), "--split", split, "--limit", str(limit),
        "--modality", ",".join(wanted), "--by", ",".join(columns), "--seed", str(seed), "--out", str(out),
        *([] if pictures is None else ["--pictures", pictures]),
    ]  # fmt: skip
    return EmbeddingMaps(one, loaded, maps, int((table["status"] != "ok").sum()), command)


def _wanted(bundle: Bundle, named: Sequence[str]) -> list[str]:
    there = [name for name in MODALITIES if name in bundle.encoders]
    for name in named:
        if name not in there:
            raise ConfigError(f"this detector has no encoder {name!r}: choose of {', '.join(there)}")
    return [name for name in there if name in named or not named]


def _with_enough(wanted: Sequence[str], vectors: dict[str, pd.DataFrame], one: TestSet) -> list[str]:
    """Those that judged clips enough for a map; the set is warned of the others."""
    counts = {name: len(vectors.get(name, ())) for name in wanted}
    one.warnings += [
        f"the {name} encoder judged {count} clips: a map has {MIN_POINTS} or more"
        for name, count in counts.items()
        if count < MIN_POINTS
    ]
    return [name for name, count in counts.items() if count >= MIN_POINTS]


def _drawn(one: TestSet, limit: int) -> Manifest:
    keys = one.manifest.keys
    if len(keys) <= limit:
        return one.manifest
    one.warnings.append(
        f"{limit} of {len(keys)} clips are shown, drawn as good as at random: --limit takes more"
    )
    digests = keys.map(lambda key: hashlib.sha256(key.encode()).hexdigest())
    chosen = digests.rank(method="first") <= limit
    return Manifest(one.manifest.table[chosen.to_numpy()], name=one.manifest.name)


class _Media:
    """Faces and sounds of prepared clips; each clip is opened once for all maps."""

    def __init__(self, prepared: PreparedSet, tracks: dict[str, dict[str, int]]):
        ready = prepared.table[prepared.table["status"] == "ok"]
        self.rows = {row["key"]: row for _, row in ready.iterrows()}
        self.prepared, self.tracks = prepared, tracks
        self.found: dict[tuple[str, str], str | None] = {}

    def of(self, key: str, modality: str) -> tuple[str | None, str | None]:
        """The face that the encoder judged, and the sound."""
        if (key, modality) not in self.found:
            clip, judged = self.prepared.load(self.rows[key]), self.tracks[key]
            faces = {track.id: track for track in clip.tracks if len(track.crops)}
            for name in ("visual", "lipsync"):
                face = faces.get(judged.get(name, -1))
                self.found[key, name] = None if face is None else face_uri(face)
            heard = clip.audio is not None and len(clip.audio) > 0
            self.found[key, "audio"] = sound_uri(clip.audio, clip.settings.sample_rate) if heard else None
        face = None if modality == "audio" else self.found[key, modality]
        return face, None if modality == "visual" else self.found[key, "audio"]


def _map(
    name: str,
    vectors: pd.DataFrame,
    told: pd.DataFrame,
    columns: Sequence[str],
    methods: Sequence[str],
    media: _Media,
    seed: int,
    folder: Path,
) -> EmbeddingMap:
    rows = told.set_index("key").loc[vectors.index].reset_index()
    projections = project(vectors.to_numpy(float), methods, seed)
    labels = rows["label"].astype("Float64").to_numpy(float, na_value=np.nan)
    groups = {column: grouped(labels, rows[column], column) for column in columns}
    kept = list(dict.fromkeys(["key", "label", "method", *columns, "score", "score_reason", "decided_by"]))
    table = rows.reindex(columns=kept).assign(modality=name, modality_score=rows[name])
    for method, projection in projections.items():
        table[f"{method}_x"], table[f"{method}_y"] = projection.points.T.astype(float)
    title = f"Embeddings of the {name} encoder"
    pictures = {
        column: plot_projections(
            list(projections.values()),
            found,
            folder / f"embeddings_{name}_{column}.png",
            f"{title} by {column}",
        )
        for column, found in groups.items()
    }
    pairs = [media.of(key, name) for key in table["key"]]
    faces, sounds = (list(part) for part in zip(*pairs, strict=True))
    return EmbeddingMap(name, table, projections, groups, faces, sounds, pictures)
