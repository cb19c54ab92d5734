"""SyncNet v2: the published two-stream network for audio-visual synchronisation."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avdetect.encoders.lipsync.base import WIDTH, SyncEncoder
from avdetect.encoders.lipsync.mfcc import MFCC
from avdetect.errors import ConfigError
from avdetect.transforms import LipSyncPreprocess

CHUNK = 64  # windows that go through a stream at once where no gradient is kept
MFCC_PER_FRAME = 4  # 100 Hz beside 25 Hz
_PUBLISHED = {
    "netcnnlip": "lip_maps",
    "netfclip": "lip_head",
    "netcnnaud": "sound_maps",
    "netfcaud": "sound_head",
}


class SyncNet(SyncEncoder):
    """SyncNet of Chung and Zisserman (2016) as released in joonson/syncnet_python: VGG-M streams on 0.2 s.

    Input: mouths (N, T, size, size, 3), RGB 0..255, uint8 or float: the crop of the whole face that its
    pipeline makes (`ClipSettings.mouth_region="face"`); waveform (N, T * 640) in [-1, 1]. The change to BGR,
    the scale of 16 bits and the MFCC happen here. Two streams of 1024 numbers per window, not normalised, are
    compared by Euclidean distance; offset and confidence (median - minimum) follow from the mean curve as
    published, except that windows without sound and pairs outside the clip have no weight (the published code
    counts silence, pads with zeros, and leaves the last window out).

    Offsets here are positive where the audio is late; the published code's (vshift - argmin) has the opposite
    sign.

    The head that makes a logit of the curve was never published. It is linear and begins as
    2 |offset in frames| - confidence, which is NOT calibrated: sound late by 5 frames at a confidence of 7
    gives +3, a clip in sync -7. `load_published` brings it back there.

    width: 32 as published; all channel counts are multiples of it. size: side of the face crops, 224 as
    published; the last kernel of the lip stream covers what is left of it.
    """

    sharpness = 2.0  # distances are about ten times as large as those between embeddings of length 1

    def __init__(
        self, width: int = 32, size: int = 224, reach: int = 15, dim: int = 1024, name: str = "syncnet"
    ) -> None:
        settings = {"width": width, "size": size, "reach": reach, "dim": dim}
        super().__init__(name, reach, LipSyncPreprocess(size, region="face", colour=True), settings)
        self.lip_maps = _lip_maps(width, size)
        self.lip_head = _head(16 * width, dim)
        self.mfcc = MFCC()
        self.sound_maps = _sound_maps(width)
        self.sound_head = _head(16 * width, dim)
        self.classifier = nn.Linear(self.embedding_dim, 1)
        with torch.no_grad():
            self.classifier.weight.copy_(self._first_weight())
            self.classifier.bias.zero_()

    def _first_weight(self) -> Tensor:
        weight = torch.zeros(1, self.embedding_dim)
        weight[0, 3] = -1.0  # confidence
        weight[0, 5] = 2.0 * self.reach  # soft |offset| as a part of the reach
        return weight

    def _lips(self, mouths: Tensor) -> Tensor:
        """(N, T, size, size, 3) -> embeddings (N, T-4, dim), not normalised."""
        count = mouths.shape[1] - WIDTH + 1
        if torch.is_grad_enabled() or count <= CHUNK:
            return self.lip_embedding(mouths)
        starts = range(0, count, CHUNK)
        return torch.cat([self.lip_embedding(mouths[:, s : s + CHUNK + WIDTH - 1]) for s in starts], dim=1)

    def lip_embedding(self, mouths: Tensor) -> Tensor:
        """(N, T, size, size, 3) -> (N, T-4, dim) in one pass: only the first layer looks over time."""
        bgr = mouths.float().flip(-1).permute(0, 4, 1, 2, 3)
        maps = self.lip_maps(bgr)  # (N, 16 * width, T-4, 1, 1)
        rows = maps.flatten(2).transpose(1, 2)
        return self.lip_head(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])

    def _sound(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> embeddings (N, T-4, dim), not normalised."""
        span = WIDTH * MFCC_PER_FRAME
        # (N, W, 13, 20): the layers pad each window by itself, so that windows cannot share them
        cepstra = self.mfcc(waveform).unfold(2, span, MFCC_PER_FRAME).transpose(1, 2)
        rows = cepstra.flatten(0, 1)
        if torch.is_grad_enabled() or len(rows) <= CHUNK:
            out = self.sound_embedding(rows)
        else:
            out = torch.cat([self.sound_embedding(part) for part in rows.split(CHUNK)])
        return out.unflatten(0, cepstra.shape[:2])

    def sound_embedding(self, cepstra: Tensor) -> Tensor:
        """MFCC windows (B, 13, 20) -> (B, dim)."""
        return self.sound_head(self.sound_maps(cepstra.unsqueeze(1)).flatten(1))

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Faces and sound of 0.6 s: (batch, 15, size, size, 3) uint8 and (batch, 9600) of noise."""
        frames, size = 15, self.preprocess.mouth_size
        faces = torch.randint(0, 256, (batch, frames, size, size, 3), dtype=torch.uint8)
        return faces, 0.1 * torch.randn(batch, frames * self.preprocess.samples_per_frame)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mapped = {}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            mapped[f"{_PUBLISHED[part]}.{rest}" if part in _PUBLISHED else key] = value
        # never published: it begins anew
        return {
            **mapped,
            "classifier.weight": self._first_weight(),
            "classifier.bias": torch.zeros(1),
        }


def _lip_maps(width: int, size: int) -> nn.Sequential:
    """(N, 3, T, size, size) -> (N, 16 * width, T-4, 1, 1)."""
    left = _left_of(size)
    w = width
    return nn.Sequential(
        *_layer3d(3, 3 * w, (WIDTH, 7, 7), stride=2),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        *_layer3d(3 * w, 8 * w, (1, 5, 5), stride=2, pad=1),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        *_layer3d(8 * w, 8 * w, (1, 3, 3), pad=1),
        *_layer3d(8 * w, 8 * w, (1, 3, 3), pad=1),
        *_layer3d(8 * w, 8 * w, (1, 3, 3), pad=1),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        *_layer3d(8 * w, 16 * w, (1, left, left)),
    )


def _layer3d(
    before: int, after: int, kernel: tuple[int, int, int], stride: int = 1, pad: int = 0
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, pad, pad))
    return convolution, nn.BatchNorm3d(after), nn.ReLU()


def _left_of(size: int) -> int:
    """Side of the map before the last layer of the lip stream: 6 for 224."""
    side = size
    for kernel, pad in ((7, 0), (3, 0), (5, 1), (3, 1), (3, 0)):  # the layers of stride 2
        side = (side + 2 * pad - kernel) // 2 + 1
    if side < 1:
        raise ConfigError(f"SyncNet cannot work at a face size of {size} pixels: give at least 51, best 224.")
    return side


def _sound_maps(width: int) -> nn.Sequential:
    """(B, 1, 13, 20) -> (B, 16 * width, 1, 1)."""
    w = width
    return nn.Sequential(
        *_layer2d(1, 2 * w),
        nn.Identity(),  # the published pooling of 1 by 1; it keeps the numbers of the layers
        *_layer2d(2 * w, 6 * w),
        nn.MaxPool2d(3, (1, 2)),
        *_layer2d(6 * w, 12 * w),
        *_layer2d(12 * w, 8 * w),
        *_layer2d(8 * w, 8 * w),
        nn.MaxPool2d(3, 2),
        *_layer2d(8 * w, 16 * w, (5, 4), pad=0),
    )


def _layer2d(
    before: int, after: int, kernel: tuple[int, int] = (3, 3), pad: int = 1
) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, kernel, 1, pad), nn.BatchNorm2d(after), nn.ReLU()


def _head(features: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(), nn.Linear(features, dim)
    )
