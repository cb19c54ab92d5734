"""Whether the lips move with the voice: two streams, an offset search, and a head on its curve."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.logmel import LogMel, level_normalise
from avdetect.encoders.base import Encoder
from avdetect.encoders.lipsync import sync
from avdetect.encoders.lipsync.sync import SyncResult
from avdetect.errors import DataError
from avdetect.transforms import LipSyncPreprocess

WIDTH = 5  # grid frames in a window: 0.2 s
HEAD_FEATURES = 6  # numbers that describe the curve, beside the curve itself
CHUNK = 512  # frames that go through the lip network at once where no gradient is kept
CONTEXT_S = 2.0  # how much of the clip one per-second score looks at


class LipSync(Encoder):
    """Lip and sound embeddings of every 5-frame window, compared over offsets of up to `reach` grid frames.

    Both streams are convolutional over the whole clip, so each window costs only its own share. The logit is
    of "out of sync" (label 1). The input is `(mouths, waveform)`: mouths (N, T, m, m) float in [0, 1] on the
    25 Hz grid, waveform (N, T * 640) float, T >= `min_frames`.
    """

    kind = "lipsync"
    min_frames = 10  # 0.4 s

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (24, 48, 96, 128),
        dim: int = 192,
        reach: int = 15,
        n_mels: int = 80,
        dropout: float = 0.1,
        mouth_size: int = 48,
        grid_fps: float = 25.0,
        sample_rate: int = 16000,
        name: str = "lipsync",
    ) -> None:
        channels = tuple(channels)
        settings = {
            "channels": list(channels),
            "dim": dim,
            "reach": reach,
            "n_mels": n_mels,
            "dropout": dropout,
            "mouth_size": mouth_size,
            "grid_fps": grid_fps,
            "sample_rate": sample_rate,
        }
        preprocess = LipSyncPreprocess(mouth_size, grid_fps, sample_rate)
        super().__init__(name, 2 * reach + 1 + HEAD_FEATURES, preprocess, settings)
        self.reach = reach
        self.dim = dim
        hop = preprocess.samples_per_frame // 4  # four mel frames a grid frame: 100 Hz
        self.mel_margin = (512 - hop) // 2  # so that mel frame j is centred in its own samples
        self.front_end = LogMel(
            sample_rate, 512, 400, hop, n_mels, fmin=20.0, fmax=sample_rate / 2, center=False
        )
        self.band_norm = nn.BatchNorm1d(n_mels)
        self.sound_maps = _sound_maps(channels)
        self.sound_time = _over_time(channels[-1] * _halved(n_mels, 4), dim, dropout)
        self.lip_maps = _lip_maps(channels)
        self.lip_time = _over_time(channels[-1] * _halved(mouth_size, 4) ** 2, dim, dropout)
        self.classifier = nn.Sequential(nn.Linear(self.embedding_dim, 32), nn.ReLU(), nn.Linear(32, 1))
        self.to(memory_format=torch.channels_last)

    def _lips(self, mouths: Tensor) -> Tensor:
        """(N, T, m, m) -> normalised embeddings (N, T-4, dim)."""
        # light and contrast of the clip are taken out, movement stays
        mean = mouths.mean(dim=(1, 2, 3), keepdim=True)
        std = mouths.var(dim=(1, 2, 3), keepdim=True, unbiased=False).add(1e-4).sqrt()
        frames = (
            ((mouths - mean) / std).flatten(0, 1).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        )
        if torch.is_grad_enabled() or len(frames) <= CHUNK:
            maps = self.lip_maps(frames).flatten(1)
        else:
            maps = torch.cat([self.lip_maps(part).flatten(1) for part in frames.split(CHUNK)])
        sequence = maps.unflatten(0, mouths.shape[:2]).transpose(1, 2)
        return F.normalize(self.lip_time(sequence).transpose(1, 2), dim=2)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> log-mel (N, n_mels, 4 * T) at level 1."""
        level = level_normalise(waveform)
        return self.front_end(
            F.pad(level.unsqueeze(1), (self.mel_margin, self.mel_margin), "reflect").squeeze(1)
        )

    def _sound(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> normalised embeddings (N, T-4, dim)."""
        maps = self.band_norm(self.spectrogram(waveform)).unsqueeze(1)
        sequence = self.sound_maps(maps.contiguous(memory_format=torch.channels_last)).flatten(1, 2)
        return F.normalize(self.sound_time(sequence).transpose(1, 2), dim=2)

    def _check(self, mouths: Tensor, waveform: Tensor) -> None:
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

    def windows(self, mouths: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, m, m), (N, T * 640) -> lip and sound embeddings (N, W, dim) each, of length 1, W = T - 4.

        Window i covers grid frames i..i+4 in both. For InfoNCE over shifts in the clip and over other clips:
        `torch.einsum("nwd,mud->nwmu", lips, sound)` holds all cosines, (n, w) matching (n, w).
        """
        self._check(mouths, waveform)
        return self._lips(mouths), self._sound(waveform)

    def speech(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> (N, W): 1 where the audio window has sound, 0 where it is silent."""
        return sync.speech_activity(waveform, self.preprocess.samples_per_frame, WIDTH)

    def embed(self, mouths: Tensor, waveform: Tensor) -> Tensor:
        """(N, T, m, m), (N, T * 640) -> description of the distance curve (N, embedding_dim).

        A clip that is silent throughout is treated as if all its windows counted, to keep the result defined;
        `compare` refuses it with a reason.
        """
        lips, sound = self.windows(mouths, waveform)
        speech = self.speech(waveform)
        speech = torch.where(speech.sum(dim=1, keepdim=True) > 0, speech, torch.ones_like(speech))
        distances = sync.offset_distances(lips, sound, self.reach)
        return sync.curve_features(*sync.mean_curve(distances, sync.pair_weights(speech, self.reach)))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = out of sync."""
        return self.classifier(embedding).squeeze(1)

    def forward(self, mouths: Tensor, waveform: Tensor) -> Tensor:
        """(N, T, m, m), (N, T * 640) -> (N,) logits, positive = out of sync."""
        return self.classify(self.embed(mouths, waveform))

    @torch.no_grad()
    def compare(self, mouths: Tensor, waveform: Tensor, start_s: float = 0.0) -> SyncResult:
        """Offset, confidence and scores of ONE clip: (1, T, m, m), (1, T * 640); `start_s` = time of frame 0.

        Use in evaluation mode. Raises `DataError` for fewer than `min_frames` frames.
        """
        if len(mouths) != 1:
            raise ValueError(f"compare takes one clip, not {len(mouths)}")
        lips, sound = self.windows(mouths, waveform)
        speech = self.speech(waveform)
        distances = sync.offset_distances(lips, sound, self.reach)
        weights = sync.pair_weights(speech, self.reach)
        curve, usable = sync.mean_curve(distances, weights)
        minimum, median = sync.curve_statistics(curve, usable)
        features = sync.curve_features(curve, usable)
        heard = bool(usable.any())
        fps = self.preprocess.grid_fps
        best = int(torch.where(usable, curve, torch.full_like(curve, sync.ABSENT)).argmin()) - self.reach
        nan = float("nan")
        second_times, second_logits = self._by_second(distances, weights)
        return SyncResult(
            offsets=torch.arange(-self.reach, self.reach + 1).numpy(),
            distances=distances.masked_fill(weights == 0, nan)[0].cpu().numpy(),
            curve=curve.masked_fill(~usable, nan)[0].cpu().numpy(),
            offset_frames=best if heard else None,
            offset_ms=best * 1000.0 / fps if heard else None,
            confidence=float(median - minimum) if heard else nan,
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
            logit = self.classify(sync.curve_features(curve, usable))
            logits.append(torch.where(usable.any(dim=1), logit, torch.full_like(logit, float("nan"))))
        return times, torch.cat(logits)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Mouths and sound of 2 s: (batch, 50, m, m) in [0, 1] and (batch, 32000) of noise."""
        frames, size = 50, self.preprocess.mouth_size
        sound = 0.1 * torch.randn(batch, frames * self.preprocess.samples_per_frame)
        return torch.rand(batch, frames, size, size), sound


def _halved(size: int, times: int) -> int:
    for _ in range(times):
        size = (size + 1) // 2
    return size


def _block(
    before: int, after: int, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> nn.Module:
    convolution = nn.Conv2d(before, after, kernel, stride, pad, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def _lip_maps(channels: tuple[int, int, int, int]) -> nn.Sequential:
    """Each frame by itself; four halvings: (N*T, 1, 48, 48) -> (N*T, C, 3, 3)."""
    one, two, three, four = channels
    return nn.Sequential(
        _block(1, one, (5, 5), (2, 2), (2, 2)),
        _block(one, two, (3, 3), (2, 2), (1, 1)),
        _block(two, three, (3, 3), (2, 2), (1, 1)),
        _block(three, four, (3, 3), (2, 2), (1, 1)),
    )


def _sound_maps(channels: tuple[int, int, int, int]) -> nn.Sequential:
    """100 Hz -> 25 Hz and frequency halved four times: (N, 1, 80, 4*T) -> (N, C, 5, T).

    A kernel of four steps with stride 2 and padding 1 is centred between the two steps it replaces, so that
    the output stays aligned with the grid.
    """
    one, two, three, four = channels
    return nn.Sequential(
        _block(1, one, (5, 3), (2, 1), (2, 1)),
        _block(one, two, (3, 4), (2, 2), (1, 1)),
        _block(two, three, (3, 4), (2, 2), (1, 1)),
        _block(three, four, (3, 1), (2, 1), (1, 0)),
    )


def _over_time(features: int, dim: int, dropout: float) -> nn.Sequential:
    """(N, features, T) -> (N, dim, T-4): windows of five frames."""
    return nn.Sequential(
        nn.Conv1d(features, dim, 1, bias=False),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv1d(dim, dim, WIDTH, bias=False),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Conv1d(dim, dim, 1),
    )
