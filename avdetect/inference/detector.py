"""The detector: one file in, one verdict out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from avdetect.evidence import Evidence, collect_evidence
from avdetect.inference.bundle import Bundle, load_bundle
from avdetect.inference.card import find_bundle
from avdetect.inference.novelty import Screened
from avdetect.inference.scoring import calibrated_scores, fused_logits, screened, verdict_label
from avdetect.inference.verdict import Verdict, label_of
from avdetect.inference.verdict_parts import faces_of, media_of, modalities_of, segments_of, weights_of
from avdetect.media import Clip, FaceDetector, Progress, no_progress, read_clip


@dataclass
class Analysis:
    """A verdict and what it rests on: the evidence holds only what this detector can judge."""

    clip: Clip
    evidence: Evidence
    verdict: Verdict


class Detector:
    """A trained bundle, ready to judge files.

    detector = Detector.load()            # the built-in one; or Detector.load("runs/dfdc_fusion/…/bundle")
    verdict = detector.predict("video.mp4")
    verdict.label, verdict.score          # "fake", 0.97
    """

    def __init__(self, bundle: Bundle, faces: FaceDetector | None = None):
        self.bundle = bundle
        self.faces = faces  # None: MTCNN, made when the first picture needs it

    @classmethod
    def load(cls, bundle: str | Path | None = None) -> Detector:
        """From a bundle folder, `builtin` or `latest`; None takes `$AVDETECT_BUNDLE`, else the built-in one.

        Raises WeightsError if there is none or if it is damaged.
        """
        return cls(load_bundle(find_bundle(bundle)))

    def predict(self, path: str | Path) -> Verdict:
        """Judge one video, image or recording. Raises MediaError if the file cannot be read."""
        return self.analyse(path).verdict

    def analyse(self, path: str | Path, progress: Progress = no_progress) -> Analysis:
        """As `predict`, with the clip and the evidence for those who want to see why.

        progress: called with "decode", "faces", "voice", "lipsync" and "fusion" as each begins.
        """
        return self.judge(read_clip(path, self.bundle.clip, self.faces, progress), progress)

    def judge(self, clip: Clip, progress: Progress = no_progress) -> Analysis:
        """As `analyse`, for a clip that was read with `bundle.clip`."""
        timing = dict(clip.timing_s)
        started = time.perf_counter()
        evidence = collect_evidence(clip, self.bundle.encoders, progress)
        timing["encoders"] = time.perf_counter() - started
        progress("fusion")
        found = screened(self.bundle, evidence)
        return Analysis(clip, found.evidence, self._verdict(clip, found, timing))

    def _verdict(self, clip: Clip, found: Screened, timing: dict[str, float]) -> Verdict:
        bundle, evidence = self.bundle, found.evidence
        started = time.perf_counter()
        logits = fused_logits(bundle.fusion, [evidence])
        scores = calibrated_scores(bundle, {name: float(values[0]) for name, values in logits.items()})
        limits = bundle.thresholds["fused"]
        timing["fusion"] = time.perf_counter() - started
        return Verdict(
            path=clip.path,
            kind=clip.kind,
            label=verdict_label(bundle, found, scores),
            score=scores["fused"],
            reason=None if scores["fused"] is not None else _why_unknown(evidence),
            modalities=modalities_of(scores, evidence),
            faces=faces_of(bundle, clip, found),
            segments=segments_of(bundle, clip, evidence),
            manipulated=[
                name
                for name in bundle.encoders
                if label_of(scores[name], **bundle.thresholds[name]) == "fake" and name not in found.doubts
            ],
            thresholds=dict(limits),
            media=media_of(clip),
            weights=weights_of(bundle),
            bundle={
                "name": bundle.card.get("name"),
                "path": str(bundle.folder) if bundle.folder else None,
                "created": bundle.card.get("created"),
            },
            warnings=[*clip.warnings, *found.doubts.values(), *bundle.card.get("warnings", [])],
            timing_s={name: round(seconds, 3) for name, seconds in timing.items()},
        )


def _why_unknown(evidence: Evidence) -> str:
    return "; ".join(dict.fromkeys(evidence.reasons[m] for m in ("visual", "audio") if m in evidence.reasons))
