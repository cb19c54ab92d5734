"""Part of the calibrate stage: what a detector was made for, measured on the clips that it learnt from.

Mixtures are fitted to traits of training clips and of one degraded copy of each. The limits come from validation
clips, genuine and fake, and their degraded copies: `doubted` and `refused` are the shares of these that lie above.
A collection (`dataset`) that was never seen must not be refused for that: each is left out of a fit in turn, and the
limit is not narrower than the median of those beyond which the same share of their clips lies. Not the widest of them:
without the most varied collection what is left is narrow, and nothing would be refused by a limit found so. For the
same reason a collection that is half of the training clips or more is not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from avdetect.data.loaders import spread
from avdetect.errors import ConfigError
from avdetect.evaluation.metrics import roc_auc
from avdetect.evidence import Evidence, collect_evidence
from avdetect.inference.novelty import Mixture, Novelty, View
from avdetect.inference.scoring import calibrated
from avdetect.media import Clip, FaceTrack
from avdetect.media.mouths import empty_mouths
from avdetect.media.traits import FACE_CROPS, face_traits, sound_traits
from avdetect.transforms.degrade import DEGRADATIONS, FACE, SOUND, degrade

if TYPE_CHECKING:
    from avdetect.inference.bundle import Bundle
    from avdetect.recipes.evidence_store import EvidenceStore

VIEWS = {"face": "visual", "sound": "audio"}  # and the modality that a labelled clip is needed of
COMPONENTS = {"face": 8, "sound": 1}  # on val, one Gaussian misses drawn faces and several miss babble
EMBEDDING = "embedding"  # a view of the clips of "face" without their copies, which no network judged
DIRECTIONS = 256  # of an embedding; with 16 or 64 drawn heads are nearer to faces
FEWEST = 30  # clips: with fewer nothing is fitted
FEWEST_LEFT_OUT = (
    20  # val clips and copies of a collection that is left out in turn; it is never half of the data
)
SHORTEST_S = 0.6  # of the excerpts among the degraded sounds
CURVE_CLIPS = 200  # of each class, one crop each
CROP_SIDES = (24, 40, 56, 72, 88, 112, 144, 224)  # pixels, of the file, that faces are shrunk to
LEAST_AUC = 0.6  # at full size, for the size of a face to be judged by it
KEPT = 0.5  # of what the AUC is above chance at full size must be left at the smallest face
FALSE_ALARMS = 0.10  # of genuine faces may be called fake at that size, or twice as many as at full size


@dataclass(frozen=True)
class NoveltySettings:
    """train.novelty: clips, most of each split that are looked at; doubted, refused: shares of val clips."""

    clips: int = 1500
    doubted: float = 0.03
    refused: float = 0.01

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NoveltySettings:
        """Raises ConfigError for another key, and for values out of range."""
        try:
            settings = cls(**values)
        except TypeError as error:
            raise ConfigError(f"train.novelty knows clips, doubted and refused ({error})") from error
        if settings.clips < FEWEST or not 0 < settings.refused <= settings.doubted < 1:
            raise ConfigError(
                f"train.novelty needs clips of {FEWEST} or more and 0 < refused <= doubted < 1, not {values}"
            )
        return settings


@dataclass
class Sample:
    """Traits of clips of one split for one view: `rows[i]` (n, F) of clip i or its copy, `dataset` of each."""

    rows: list[np.ndarray]
    dataset: np.ndarray

    def stacked(self, keep: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([row for i, row in enumerate(self.rows) if keep is None or keep[i]])

    def surprise(self, mixture: Mixture) -> np.ndarray:
        """(N,) by clip: the median over its rows."""
        ends = np.cumsum([len(row) for row in self.rows])[:-1]
        return np.array([np.median(part) for part in np.split(mixture.surprise(self.stacked()), ends)])


def add_novelty(
    bundle: Bundle, store: EvidenceStore, settings: NoveltySettings, seed: int, say: Callable[[str], None]
) -> None:
    """Give a bundle its `novelty`, and its card what was measured."""
    train, val = (samples(store, split, settings.clips, seed) for split in ("train", "val"))
    views = {}
    measured: dict[str, Any] = {"clips": {}}
    for name in VIEWS:
        counts = {"train": len(train[name].rows), "val": len(val[name].rows)}
        if min(counts.values()) < FEWEST:
            continue
        views[name] = fit_view(name, train[name], val[name], settings, seed)
        measured["clips"][name] = counts
        say(
            f"novelty  {name}  doubted above {views[name].doubted:.1f}, refused above {views[name].refused:.1f}"
        )
    smallest, curve = None, None
    if "visual" in bundle.encoders:
        curve = size_curve(store, bundle, seed)
        smallest = smallest_side(curve, 1 + 2 * bundle.clip.crop_margin)
        say(f"novelty  smallest face  {'any' if smallest is None else f'{smallest:.0f} pixels'}")
    if "face" in views:
        views[EMBEDDING] = fit_embedding(embeddings(store, "train"), embeddings(store, "val"), settings)
        say(f"novelty  {EMBEDDING}  doubted above {views[EMBEDDING].doubted:.1f}")
    bundle.novelty = Novelty(views, smallest)
    bundle.card["novelty"] = {"measured": {**measured, "face_size_curve": curve}}


def fit_view(name: str, train: Sample, val: Sample, settings: NoveltySettings, seed: int) -> View:
    """A mixture over the training clips and its two limits."""
    mixture = Mixture.fit(train.stacked(), COMPONENTS[name], seed)
    surprise = val.surprise(mixture)
    doubted, refused = (
        float(np.quantile(surprise, 1 - share)) for share in (settings.doubted, settings.refused)
    )
    unseen = []
    for dataset in pd.unique(val.dataset):
        inside, left = val.dataset == dataset, train.dataset != dataset
        if inside.sum() < FEWEST_LEFT_OUT or left.sum() <= max(FEWEST, 0.5 * len(left)):
            continue
        other = Mixture.fit(train.stacked(left), COMPONENTS[name], seed)
        unseen.append(float(np.quantile(val.surprise(other)[inside], 1 - settings.refused)))
    return View(mixture, doubted, max(refused, float(np.median(unseen or [refused]))))


def fit_embedding(train: Sample, val: Sample, settings: NoveltySettings) -> View:
    """One Gaussian over the embeddings of training clips, and its one limit."""
    mixture = Mixture.fit_directions(train.stacked(), DIRECTIONS)
    return View(mixture, float(np.quantile(val.surprise(mixture), 1 - settings.doubted)), None)


# -- traits of a split ----------------------------------------------------------------------------------------


def samples(store: EvidenceStore, split: str, clips: int, seed: int) -> dict[str, Sample]:
    """By view, traits of at most `clips` clips of a split and of one degraded copy of each."""
    table, rows = store.table(split), store.rows(split)
    found: dict[str, tuple[list, list]] = {name: ([], []) for name in VIEWS}
    chosen = {name: _spread(table, _there(rows, name), clips, seed) for name in VIEWS}
    for index in sorted(set().union(*chosen.values())):
        row, clip = rows[index], store.prepared.load(table.iloc[index])
        rng = np.random.default_rng([seed, index])
        for name in (name for name in VIEWS if index in chosen[name]):
            copy = degraded_face(clip, rng) if name == "face" else degraded_sound(clip, rng)
            own = row.tracks[0].traits[None] if name == "face" else row.sound
            for traits in (own, copy):
                heard = traits[np.isfinite(traits).all(axis=1)]
                if len(heard):
                    found[name][0].append(heard)
                    found[name][1].append(str(table["dataset"].iloc[index]))
    return {name: Sample(parts, np.array(datasets)) for name, (parts, datasets) in found.items()}


def embeddings(store: EvidenceStore, split: str) -> Sample:
    """What the face network makes of the first face of every clip of a split, as its head takes it."""
    table, rows = store.table(split), store.rows(split)
    there = _there(rows, "face")
    return Sample(
        [rows[index].tracks[0].embedding[None] for index in there],
        table["dataset"].astype(str).to_numpy()[there],
    )


def _there(rows: Sequence[Evidence], view: str) -> np.ndarray:
    """Indices of the clips that have traits."""
    has = [bool(row.tracks) if view == "face" else row.sound is not None for row in rows]
    return np.flatnonzero(has)


def _spread(table: pd.DataFrame, indices: np.ndarray, count: int, seed: int) -> set[int]:
    """At most `count` of the indices, as many of each dataset as there are until all are equally represented."""
    order = np.random.default_rng(seed).permutation(indices)
    turn = table["dataset"].astype(str).iloc[order]
    rank = turn.groupby(turn.to_numpy()).cumcount().to_numpy()
    return {int(index) for index in order[np.argsort(rank, kind="stable")[:count]]}


def degraded_face(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """(1, F) of the first face after a random degradation of the robustness test, or without its colours."""
    track = _few_crops(clip.tracks[0], clip)
    names = [name for name, entry in DEGRADATIONS.items() if entry.part == FACE]
    kind = rng.integers(len(names) + 1)
    if kind == len(names):
        grey = np.repeat(track.crops.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
        return face_traits(grey)[None]
    return face_traits(_degraded(replace(clip, tracks=[track]), names[kind], rng).tracks[0].crops)[None]


def degraded_sound(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """(W, F) after a random degradation of the robustness test, of a short excerpt, or at a low level."""
    names = [name for name, entry in DEGRADATIONS.items() if entry.part == SOUND and name != "offset"]
    kind, rate = rng.integers(len(names) + 2), clip.settings.sample_rate
    sound = np.asarray(clip.audio)
    if kind == len(names):
        size = round(rate * rng.uniform(SHORTEST_S, 2.0))
        start = int(rng.integers(max(1, len(sound) - size)))
        return sound_traits(sound[start : start + size], rate)
    if kind == len(names) + 1:
        return sound_traits(sound * np.float32(10 ** rng.uniform(-2, -0.5)), rate)
    return sound_traits(_degraded(replace(clip, tracks=[]), names[kind], rng).audio, rate)


def _degraded(clip: Clip, name: str, rng: np.random.Generator) -> Clip:
    strengths = DEGRADATIONS[name].strengths
    return degrade(clip, name, strengths[rng.integers(len(strengths))], clip.path, int(rng.integers(2**31)))


def _few_crops(track: FaceTrack, clip: Clip, count: int = FACE_CROPS) -> FaceTrack:
    """At most `count` crops, spread evenly, and no mouths."""
    places = spread(len(track.crops), count)
    return replace(track, crops=track.crops[places], crop_times=track.crop_times[places],
                   mouths=empty_mouths(clip.settings))  # fmt: skip


# -- the smallest face ----------------------------------------------------------------------------------------


def size_curve(store: EvidenceStore, bundle: Bundle, seed: int) -> list[dict[str, float]]:
    """The visual encoder on labelled val clips whose face crops are shrunk to `CROP_SIDES` and enlarged again.

    By side: `auc`, and `false_alarms`, the share of genuine faces above the bundle's threshold for fake.
    """
    table, rows, truth = store.table("val"), store.rows("val"), store.truths("val")["visual"]
    known = np.flatnonzero(np.isfinite(truth) & [bool(row.tracks) for row in rows])
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(known[truth[known] == label])[:CURVE_CLIPS] for label in (0, 1)]
    encoder = {"visual": bundle.encoders["visual"]}
    crops = encoder["visual"].preprocess.frames
    logits: dict[int, list[float]] = {side: [] for side in CROP_SIDES}
    labels = []
    for index in np.concatenate(parts):
        clip = store.prepared.load(table.iloc[index])
        few = replace(clip, tracks=[_few_crops(clip.tracks[0], clip, crops)], audio=None)
        shrunk = [degrade(few, "resize", side, clip.path) for side in CROP_SIDES]
        found = [collect_evidence(copy, encoder).face for copy in shrunk]
        if all(face is not None for face in found):
            labels.append(int(truth[index]))
            for side, face in zip(CROP_SIDES, found, strict=True):
                logits[side].append(face.logit)
    if min(labels.count(0), labels.count(1)) < FEWEST:
        return []
    limit, truth = bundle.thresholds["visual"]["fake_above"], np.array(labels)
    curve = []
    for side, values in logits.items():
        called = np.array([calibrated(bundle, "visual", value) > limit for value in values])
        auc, alarms = roc_auc(truth, np.array(values)), called[truth == 0].mean()
        point = {"auc": round(float(auc), 4), "false_alarms": round(float(alarms), 4)}
        curve.append({"crop_side_px": side, **point, "n": len(labels)})
    return curve


def smallest_side(curve: list[dict[str, float]], reach: float) -> float | None:
    """Longer side of the smallest face box that may be judged, pixels; None where the curve sets no limit.

    From it on every larger face keeps `KEPT` of what the AUC of the largest is above chance, and no more than
    `FALSE_ALARMS` of the genuine ones are called fake: a detector may take the blur of a small face for a fake's.
    reach: side of a crop over that of the box.
    """
    if not curve or curve[-1]["auc"] < LEAST_AUC:
        return None
    needed = 0.5 + KEPT * (curve[-1]["auc"] - 0.5)
    alarms = max(FALSE_ALARMS, 2 * curve[-1]["false_alarms"])
    failed = [point for point in curve if point["auc"] < needed or point["false_alarms"] > alarms]
    below = [point["crop_side_px"] for point in failed]
    if not below:
        return None
    larger = [point["crop_side_px"] for point in curve if point["crop_side_px"] > max(below)]
    return min(larger) / reach
