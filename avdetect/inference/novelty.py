"""Notices what a detector was not made for: drawn faces, faces of a few pixels, music, noise.

How unlike the clips that were learnt from a face or a sound is, is its surprise: minus the log density of its traits
(`media.traits`) under a mixture of Gaussians fitted to those clips and to degraded copies of them; with one Gaussian,
up to constants, half the squared Mahalanobis distance. A face is looked at twice: at its traits, and at what the face
network makes of it (its embedding; after Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution
Samples", NeurIPS 2018), as a drawn head may have the tone and texture of a photograph. Two limits, set on validation
clips (`recipes.novelty_stage`): above the first the judgement is doubted, above the second there is none. By its
embedding a face is only doubted: it is unlike what was learnt in any collection that was filmed otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from avdetect.errors import WeightsError
from avdetect.evidence import Evidence, TrackEvidence, VoiceEvidence
from avdetect.media.traits import SOUND_WINDOW_S

SPEECH_SHARE = 0.25  # of a recording must be like speech for its voice to be judged; the rest is left out
RIDGE = 0.02  # added to the variances, in units of the standardised traits

STRANGE_FACE = (
    "the face is drawn, covered or otherwise unlike the faces that this detector learnt from: not judged"
)
STRANGE_SOUND = (
    "this does not sound like the speech that this detector learnt from (music, noise, other sounds)"
)
DOUBTFUL = {
    "visual": "the face is less like the faces that this detector learnt from than almost all of them are: what is "
    "said of it is uncertain",
    "audio": "the sound is less like the speech that this detector learnt from than almost all of it is: what is "
    "said of the voice is uncertain",
}


@dataclass(frozen=True)
class Mixture:
    """Density of vectors of F traits: K Gaussians over standardised traits."""

    shift: np.ndarray  # (F,)
    scale: np.ndarray  # (F,)
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, F), standardised
    whitening: (
        np.ndarray
    )  # (K, F, F): (x - mean) @ whitening has unit covariance; (K, F) where it is diagonal

    @classmethod
    def fit(cls, rows: np.ndarray, components: int, seed: int, covariance: str = "full") -> Mixture:
        """From (N, F); fewer components are taken where there are less than 5 F rows for each.

        covariance: "full" or "diag", for vectors too long for their covariances to be known.
        """
        from sklearn.mixture import GaussianMixture  # prediction does without

        rows = np.asarray(rows, np.float64)
        shift, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        count = int(np.clip(len(rows) // (5 * rows.shape[1]), 1, components))
        fitted = GaussianMixture(count, reg_covar=RIDGE, random_state=seed).fit((rows - shift) / scale)
        parts = (shift, scale, fitted.weights_, fitted.means_, fitted.precisions_cholesky_)
        return cls(*(part.astype(np.float32) for part in parts))

    @classmethod
    def fit_directions(cls, rows: np.ndarray, directions: int) -> Mixture:
        """One Gaussian from (N, F), for vectors too long for their covariance to be known: over the directions in which
        they differ most, at most `directions` and a fifth of N. Its surprise is half the squared distance there.
        """
        rows = np.asarray(rows, np.float64)
        shift, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.maximum(scale, 0.05 * scale.mean() + 1e-6)  # units of a network that hardly ever speak
        _, spread, axes = np.linalg.svd((rows - shift) / scale, full_matrices=False)
        count = max(1, min(directions, len(rows) // 5, len(spread)))
        whitening = axes[:count].T / np.sqrt(spread[:count] ** 2 / len(rows) + RIDGE)
        parts = (shift, scale, np.ones(1), np.zeros((1, len(shift))), whitening[None])
        return cls(*(part.astype(np.float32) for part in parts))

    def surprise(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) -> (N,) float64, nats; NaN for rows of NaN."""
        x = (np.asarray(rows, np.float64) - self.shift) / self.scale
        logs, square = [], self.whitening.shape[1] == self.whitening.shape[2]
        for weight, mean, root in zip(self.weights, self.means, self.whitening, strict=True):
            distance = np.square((x - mean) @ root.astype(np.float64)).sum(axis=1)
            # of fewer directions than traits there is no density, only a distance
            stretch = np.linalg.slogdet(root)[1] if square else 0.0
            logs.append(np.log(weight) + stretch - 0.5 * distance)
        constant = 0.5 * x.shape[1] * np.log(2 * np.pi) if square else 0.0
        with np.errstate(invalid="ignore"):  # rows of NaN
            return constant - np.logaddexp.reduce(logs, axis=0)


@dataclass(frozen=True)
class View:
    """One thing that is looked at, and from which surprise on it is doubted and refused (None: never)."""

    mixture: Mixture
    doubted: float
    refused: float | None


@dataclass
class Screened:
    """Evidence of which only what can be judged is left, and what is to be said of the rest.

    faces: by track id, why that face is not judged; doubts: by modality, a warning.
    """

    evidence: Evidence
    faces: dict[int, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    def without_doubts(self) -> Evidence:
        """The evidence without the modalities that are in doubt, and without lips that need them."""
        found = self.evidence
        return replace(
            found,
            tracks=[] if "visual" in self.doubts else found.tracks,
            voice=None if "audio" in self.doubts else found.voice,
            sync=None if self.doubts else found.sync,
        )


@dataclass(frozen=True)
class Novelty:
    """What a detector knows of its limits.

    views: "face" over `TrackEvidence.traits`, "embedding" over `TrackEvidence.embedding`, "sound" over the rows of
    `Evidence.sound`, each where it was fitted;
    smallest_face_px: longer side of a face box under which the face is not judged, None where any may be.
    """

    views: dict[str, View]
    smallest_face_px: float | None = None

    def screen(self, evidence: Evidence) -> Screened:
        """Take out of the evidence what this detector cannot judge; the evidence itself stays as it is."""
        faces = {track.track_id: why for track in evidence.tracks if (why := self._face_refused(track))}
        kept = [track for track in evidence.tracks if track.track_id not in faces]
        reasons = dict(evidence.reasons)
        if faces and not kept:
            reasons["visual"] = "; ".join(dict.fromkeys(faces.values()))
        voice, sync, doubts = evidence.voice, evidence.sync, {}
        surprise = self._surprise_of(evidence.sound)
        speech = None if surprise is None else ~(surprise > self.views["sound"].refused)
        if speech is not None and speech[np.isfinite(surprise)].mean() < SPEECH_SHARE:
            reasons |= {"audio": STRANGE_SOUND} if voice is not None else {}
            reasons |= {"lipsync": STRANGE_SOUND} if sync is not None else {}
            voice = sync = None
        elif speech is not None and voice is not None:
            voice = _speech_windows(voice, speech)
        if sync is not None and sync.track_id in faces:
            reasons["lipsync"] = f"the talking face cannot be judged: {faces[sync.track_id]}"
            sync = None
        found = replace(evidence, tracks=kept, voice=voice, sync=sync, reasons=reasons)
        if found.face is not None and self._doubted(found.face):
            doubts["visual"] = DOUBTFUL["visual"]
        if voice is not None and speech is not None and np.nanmedian(surprise) > self.views["sound"].doubted:
            doubts["audio"] = DOUBTFUL["audio"]
        return Screened(found, faces, doubts)

    def _face_refused(self, track: TrackEvidence) -> str | None:
        smallest = self.smallest_face_px
        if smallest is not None and track.side_px is not None and track.side_px < smallest:
            return (
                f"the face is only {track.side_px:.0f} pixels high: below {smallest:.0f} this detector errs too often "
                "to be heard"
            )
        return STRANGE_FACE if self._above("face", "refused", track.traits) else None

    def _doubted(self, track: TrackEvidence) -> bool:
        return self._above("face", "doubted", track.traits) or self._above(
            "embedding", "doubted", track.embedding
        )

    def _above(self, name: str, limit: str, traits: np.ndarray | None) -> bool:
        view = self.views.get(name)
        if view is None or traits is None:
            return False
        return float(view.mixture.surprise(traits[None])[0]) > getattr(view, limit)

    def _surprise_of(self, sound: np.ndarray | None) -> np.ndarray | None:
        """(W,) by window, NaN in silence; None where it is not known of any."""
        if "sound" not in self.views or sound is None or not np.isfinite(sound).any():
            return None
        return self.views["sound"].mixture.surprise(sound)

    # -- on disk ------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything of the mixtures, by "VIEW.FIELD"."""
        return {f"{name}.{key}": value for name, view in self.views.items()
                for key, value in asdict(view.mixture).items()}  # fmt: skip

    def limits(self) -> dict[str, Any]:
        """Everything else, for the card."""
        views = {
            name: {"doubted": view.doubted, "refused": view.refused} for name, view in self.views.items()
        }
        return {"views": views, "smallest_face_px": self.smallest_face_px}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], limits: Mapping[str, Any]) -> Novelty:
        """Inverse of `arrays` and `limits`. Raises WeightsError where they do not belong together."""
        views = {}
        try:
            for name, entry in limits["views"].items():
                parts = {
                    key.partition(".")[2]: value
                    for key, value in arrays.items()
                    if key.partition(".")[0] == name
                }
                refused = None if entry["refused"] is None else float(entry["refused"])
                views[name] = View(Mixture(**parts), float(entry["doubted"]), refused)
            return cls(views, limits["smallest_face_px"])
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"what the card says of novelty does not fit its file ({error}): copy or train the bundle again"
            ) from error


def _speech_windows(voice: VoiceEvidence, speech: np.ndarray) -> VoiceEvidence:
    """The windows of a voice that lie mostly in speech; speech (W,) bool, per `SOUND_WINDOW_S`; all, if none does."""
    if speech.all() or voice.window_embeddings is None:
        return voice
    edges = SOUND_WINDOW_S * np.arange(len(speech))
    ends = np.append(edges[1:], np.inf)  # the last one reaches to the end
    overlap = np.minimum(voice.window_times[:, None] + voice.window_s, ends)
    overlap = np.clip(overlap - np.maximum(voice.window_times[:, None], edges), 0, None)
    keep = overlap @ speech >= 0.5 * overlap.sum(axis=1)
    if keep.all() or not keep.any():
        return voice
    return replace(
        voice,
        window_times=voice.window_times[keep],
        window_logits=voice.window_logits[keep],
        window_embeddings=voice.window_embeddings[keep],
        embedding=voice.window_embeddings[keep].mean(axis=0),
    )
