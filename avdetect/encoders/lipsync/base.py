"""What the lip-sync encoders have in common: offset search, head on its curve, result of a clip."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import Encoder
from avdetect.encoders.lipsync import sync
from avdetect.encoders.lipsync.sync import SyncResult
from avdetect.errors import DataError
from avdetect.transforms import LipSyncPreprocess

WIDTH = 5  # grid frames in a window: 0.2 s
HEAD_FEATURES = 6  # numbers that describe the curve, beside the curve itself
CONTEXT_S = 2.0  # how much of the clip one per-second score looks at


class SyncEncoder(Encoder):
    """Two streams of embeddings, one per 5-frame window, compared over offsets of up to `reach` grid frames.

    A subclass has `_lips` and `_sound`, which make the streams, and `classifier`, the head on the curve. The
    logit is of "out of sync" (label 1). The input is `(mouths, waveform)`: mouths (N, T, ...) on the 25 Hz
    grid, waveform (N, T * 640) float, T >= `min_frames`.
    """

    kind = "lipsync"
    min_frames = 10  # 0.4 s
    sharpness = sync.SHARPNESS  # see `sync.curve_features`
    classifier: nn.Module

    def __init__(self, name: str, reach: int, preprocess: LipSyncPreprocess, settings: dict) -> None:
        super().__init__(name, 2 * reach + 1 + HEAD_FEATURES, preprocess, settings)
        self.reach = reach

    def _lips(self, mouths: Tensor) -> Tensor:
        """(N, T, ...) -> embeddings (N, T-4, dim) as they are compared."""
        raise NotImplementedError

    def _sound(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> embeddings (N, T-4, dim) as they are compared."""
        raise NotImplementedError

    def streams(self, mouths: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, ...), (N, T * 640) -> lip and sound embeddings (N, W, dim), as they are compared; W = T - 4.

        Window i covers grid frames i..i+4 in both. Raises `DataError` for fewer than `min_frames` frames.
        """
        frames = mouths.shape[1]
        if frames < self.min_frames:
            raise DataError(
                f"Lip-sync needs at least {self.min_frames} mouth frames "
                f"({self.min_frames / self.preprocess.grid_fps:.1f} s), found {frames}; treat it as unknown."
            )
        expected = frames * self.preprocess.samples_per_frame
        if waveform.shape[1] != expected:
            raise ValueError(
                f"{frames} mouth frames go with {expected} audio samples, not {waveform.shape[1]}"
            )
        return self._lips(mouths), self._sound(waveform)

    def pair_distances(self, lips: Tensor, sound: Tensor) -> Tensor:
        """Embeddings (N, W, D) each -> distances (N, W, 2*reach+1) as in `sync.offset_distances`."""
        return sync.offset_distances(lips, sound, self.reach)

    def curve_features(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        """Mean distances, usable offsets and weights by offset (N, O) -> what `classify` takes (N, O + 6)."""
        return sync.curve_features(curve, usable, self.sharpness)

    def curve_confidence(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        """How sure the best offset is (N,), from the same: here the median of the curve minus its minimum."""
        minimum, median = sync.curve_statistics(curve, usable)
        return median - minimum

    def best_offset(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        """Offset (N,) in grid frames at which lips and sound fit best, from the same."""
        return sync.masked_curve(curve, usable).argmin(dim=1) - self.reach

    def windows(self, mouths: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """`streams` at length 1, for InfoNCE over shifts in the clip and over other clips:
        `torch.einsum("nwd,mud->nwmu", lips, sound)` holds all cosines, (n, w) matching (n, w).
        """
        lips, sound = self.streams(mouths, waveform)
        return F.normalize(lips, dim=2), F.normalize(sound, dim=2)

    def speech(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> (N, W): 1 where the audio window has sound, 0 where it is silent."""
        return sync.speech_activity(waveform, self.preprocess.samples_per_frame, WIDTH)

    def embed(self, mouths: Tensor, waveform: Tensor) -> Tensor:
        """(N, T, ...), (N, T * 640) -> description of the distance curve (N, embedding_dim).

        A clip that is silent throughout is treated as if all its windows counted, to keep the result defined;
        `compare` refuses it with a reason.
        """
        lips, sound = self.streams(mouths, waveform)
        speech = self.speech(waveform)
        speech = torch.where(speech.sum(dim=1, keepdim=True) > 0, speech, torch.ones_like(speech))
        distances = self.pair_distances(lips, sound)
        weights = sync.pair_weights(speech, self.reach)
        curve, usable = sync.mean_curve(distances, weights)
        return self.curve_features(curve, usable, weights.sum(dim=1))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = out of sync."""
        return self.classifier(embedding).squeeze(1)

    def forward(self, mouths: Tensor, waveform: Tensor) -> Tensor:
        """(N, T, ...), (N, T * 640) -> (N,) logits, positive = out of sync."""
        return self.classify(self.embed(mouths, waveform))

    @torch.no_grad()
    def compare(self, mouths: Tensor, waveform: Tensor, start_s: float = 0.0) -> SyncResult:
        """Offset, confidence and scores of ONE clip: (1, T, ...), (1, T * 640); `start_s` = time of frame 0.

        Use in evaluation mode. Raises `DataError` for fewer than `min_frames` frames.
        """
        if len(mouths) != 1:
            raise ValueError(f"compare takes one clip, not {len(mouths)}")
        lips, sound = self.streams(mouths, waveform)
        speech = self.speech(waveform)
        distances = self.pair_distances(lips, sound)
        weights = sync.pair_weights(speech, self.reach)
        curve, usable = sync.mean_curve(distances, weights)
        by_offset = weights.sum(dim=1)
        features = self.curve_features(curve, usable, by_offset)
        heard = bool(usable.any())
        fps = self.preprocess.grid_fps
        best = int(self.best_offset(curve, usable, by_offset))
        nan = float("nan")
        second_times, second_logits = self._by_second(distances, weights)
        return SyncResult(
            offsets=torch.arange(-self.reach, self.reach + 1).numpy(),
            distances=distances.masked_fill(weights == 0, nan)[0].cpu().numpy(),
            curve=curve.masked_fill(~usable, nan)[0].cpu().numpy(),
            offset_frames=best if heard else None,
            offset_ms=best * 1000.0 / fps if heard else None,
            confidence=float(self.curve_confidence(curve, usable, by_offset)) if heard else nan,
            logit=float(self.classify(features)) if heard else nan,
            embedding=features[0].float().cpu().numpy(),
            window_times=start_s
            + (torch.arange(lips.shape[1], dtype=torch.float64) + WIDTH // 2).numpy() / fps,
            speech=speech[0].bool().cpu().numpy(),
            second_times=start_s + second_times.numpy(),
            second_logits=second_logits.cpu().numpy(),
            reason=None if heard else "the audio beside the mouth is silent",
        )

    def _by_second(self, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of every second, from the windows in `CONTEXT_S` around the second's middle."""
        middles = (
            torch.arange(distances.shape[1], dtype=torch.float64) + WIDTH / 2
        ) / self.preprocess.grid_fps
        duration = (distances.shape[1] + WIDTH - 1) / self.preprocess.grid_fps
        times = torch.arange(0.0, duration, dtype=torch.float64)
        logits = []
        for time in times.tolist():
            near = ((middles - time - 0.5).abs() <= CONTEXT_S / 2).nonzero().squeeze(1).to(distances.device)
            curve, usable = sync.mean_curve(distances[:, near], weights[:, near])
            logit = self.classify(self.curve_features(curve, usable, weights[:, near].sum(dim=1)))
            logits.append(torch.where(usable.any(dim=1), logit, torch.full_like(logit, float("nan"))))
        return times, torch.cat(logits)
