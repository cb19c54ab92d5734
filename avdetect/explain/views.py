"""What is explained of an encoder: a function of one tensor, the places of that tensor, and what "without" means.

A view takes x (N, …) to logits (N,), positive = fake. Attributions of the shape of x are summed over all that is no
place (colour, channel, the pixels of a mouth) to maps (N, *places): (H, W) of a face, (bands, frames) of a sound,
(T,) of a mouth. What stands at a place is taken away by putting that of `baseline(x)` there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders import Encoder
from avdetect.encoders.lipsync import sync

WAVE_BANDS, WAVE_FFT, WAVE_HOP = (
    40,
    512,
    128,
)  # of the spectrogram over networks that hear the waveform itself
QUIET = 0.2  # share of a window in which a band is quiet
WAVE_GAIN = 4.0  # a band may be so much louder than it is, where a louder one is looked for


class View(nn.Module):
    """An encoder in evaluation mode as a function of one tensor."""

    modality: str

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def baseline(self, x: Tensor) -> Tensor:
        """x with everything taken away, of the same shape."""
        raise NotImplementedError

    def to_map(self, attribution: Tensor) -> Tensor:
        """Of the shape of x -> (N, *places), by summing over the rest."""
        raise NotImplementedError

    def spread(self, places: Tensor, x: Tensor) -> Tensor:
        """(N or 1, *places) -> of the shape of x (its first axis as it is), the same value for all that is no place."""
        raise NotImplementedError

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest value that an input like x may have, to be broadcast."""
        return x.amin(), x.amax()

    def fixed(self, x: Tensor) -> tuple[View, Tensor]:
        """A view of a changed input, and the tensor that is that input in it."""
        return self, x

    def content(self, x: Tensor) -> tuple[View, Tensor]:
        """The input itself, where x only weighs it: a view of it, and its tensor."""
        return self, x

    def places(self, x: Tensor) -> tuple[int, ...]:
        """Shape of one map of x."""
        return tuple(self.to_map(x[:1]).shape[1:])


class _PlaneView(View):
    """x (N, …, A, B) with places (A, B)."""

    def to_map(self, attribution: Tensor) -> Tensor:
        return attribution.flatten(1, -3).sum(1)

    def spread(self, places: Tensor, x: Tensor) -> Tensor:
        return places.reshape(len(places), *[1] * (x.ndim - 3), *places.shape[1:]).expand(-1, *x.shape[1:])

    def enlarge(self, maps: Tensor, x: Tensor) -> Tensor:
        """Maps (N, coarser A, coarser B) of a layer -> (N, A, B)."""
        size = x.shape[-2:]
        return F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=False)[:, 0]


class FaceView(_PlaneView):
    """x: preprocessed crops (N, 3, S, S), or (N, 2, 3, S, S) of networks that compare a frame with the one before.

    Without: the mean colour of the crop.
    """

    modality = "visual"

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def baseline(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True).expand_as(x).contiguous()


class SpectrogramView(_PlaneView):
    """x: what the layers of an audio encoder see, `encoder.front(waveform)` (N, C, bands, frames).

    Without: `encoder.neutral_front`.
    """

    modality = "audio"

    @property
    def bands_hz(self) -> np.ndarray:
        return self.encoder.bands_hz

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.classify(self.encoder.embed_front(x))

    def baseline(self, x: Tensor) -> Tensor:
        return self.encoder.neutral_front(x)


class WaveView(_PlaneView):
    """How much of each mel band is heard when, x (N, 1, bands, frames) in [0, 1], of ONE window (1, T).

    For audio encoders that take the waveform itself: it goes through a short-time Fourier transform, is multiplied
    there, and back. Without: what is louder than its band is in the quietest fifth of the window is brought down to
    that; silence instead would be a hole that no recording has.
    """

    modality = "audio"

    def __init__(self, encoder: Encoder, window: Tensor) -> None:
        super().__init__(encoder)
        rate = encoder.preprocess.sample_rate
        centres = librosa.mel_frequencies(WAVE_BANDS + 2, fmin=0.0, fmax=rate / 2)[1:-1]
        bins = np.arange(WAVE_FFT // 2 + 1) * rate / WAVE_FFT
        nearest = np.abs(bins[:, None] - centres[None]).argmin(1)
        self.bands_hz = centres
        self.band_of_bin = torch.from_numpy(nearest).to(window.device)
        self.hann = torch.hann_window(WAVE_FFT, device=window.device)
        self.length = window.shape[-1]
        self.spectrum = torch.stft(window, WAVE_FFT, WAVE_HOP, window=self.hann, return_complex=True)

    def whole(self) -> Tensor:
        """x of the window as it is: (1, 1, bands, frames) of ones."""
        return torch.ones(1, 1, WAVE_BANDS, self.spectrum.shape[-1], device=self.spectrum.device)

    def forward(self, x: Tensor) -> Tensor:
        heard = self.spectrum * x[:, 0, self.band_of_bin]
        return self.encoder(torch.istft(heard, WAVE_FFT, WAVE_HOP, window=self.hann, length=self.length))

    def baseline(self, x: Tensor) -> Tensor:
        power = self.spectrum.abs().square()[0]
        sums = power.new_zeros(WAVE_BANDS, power.shape[1]).index_add_(0, self.band_of_bin, power)
        level = sums.sqrt()
        quiet = torch.quantile(level, QUIET, dim=1, keepdim=True)
        return (quiet / level.clamp_min(1e-9)).clamp_max(1.0).expand_as(x).contiguous()

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), torch.full_like(x, WAVE_GAIN)

    def fixed(self, x: Tensor) -> tuple[View, Tensor]:
        """The changed sound as it is heard: all of it is there, so that it can be taken away."""
        heard = copy.copy(self)
        heard.spectrum = self.spectrum * x[:, 0, self.band_of_bin]
        return heard, torch.ones_like(x)


class MouthView(View):
    """How much each moment counts, x (N, T) in [0, 1], of ONE pair of mouths (1, T, …) and waveform (1, T * 640).

    A moment is the window of five frames around a mouth frame; all pairs of lips and sound that it is part of are
    weighted by x. Without: 0, as the encoders treat silence. A mouth that is held still instead would be no evidence
    taken away: beside a voice it is out of step.
    """

    modality = "lipsync"

    def __init__(self, encoder: Encoder, mouths: Tensor, waveform: Tensor) -> None:
        super().__init__(encoder)
        self.mouths, self.waveform = mouths, waveform

    def whole(self) -> Tensor:
        """x of the clip as it is: (1, T) of ones."""
        return torch.ones(1, self.mouths.shape[1], device=self.mouths.device)

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        with torch.no_grad():
            distances = encoder.pair_distances(*encoder.streams(self.mouths, self.waveform))
        edge = (x.shape[1] - distances.shape[1]) // 2
        lips = x[:, edge : edge + distances.shape[1]]
        weights = sync.pair_weights(encoder.speech(self.waveform) * lips, encoder.reach) * lips.unsqueeze(2)
        curve, usable = sync.mean_curve(distances.expand_as(weights), weights)
        return encoder.classify(encoder.curve_features(curve, usable, weights.sum(dim=1)))

    def baseline(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def to_map(self, attribution: Tensor) -> Tensor:
        return attribution

    def spread(self, places: Tensor, x: Tensor) -> Tensor:
        return places

    def content(self, x: Tensor) -> tuple[View, Tensor]:
        return _MouthContent(self.encoder, self.waveform), self.mouths


class _MouthContent(View):
    """x: mouths (N, T, …) beside ONE waveform, to plant artefacts in."""

    modality = "lipsync"

    def __init__(self, encoder: Encoder, waveform: Tensor) -> None:
        super().__init__(encoder)
        self.waveform = waveform

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, self.waveform.expand(len(x), -1))

    def baseline(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True).expand_as(x).contiguous()

    def to_map(self, attribution: Tensor) -> Tensor:
        return attribution.flatten(2).sum(2)

    def spread(self, places: Tensor, x: Tensor) -> Tensor:
        return places.reshape(*places.shape, *[1] * (x.ndim - 2)).expand(-1, *x.shape[1:])

    def fixed(self, x: Tensor) -> tuple[View, Tensor]:
        view = MouthView(self.encoder, x, self.waveform)
        return view, view.whole()


def has_front(encoder: Encoder) -> bool:
    """Whether an audio encoder's layers can be entered behind its spectrogram."""
    return hasattr(encoder, "embed_front")


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Parameters without gradients: quicker, and only what depends on the input has one."""
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
