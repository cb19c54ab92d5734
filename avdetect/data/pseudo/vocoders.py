"""Small neural vocoders and waveform autoencoders that resynthesise speech, as pseudo-fakes.

What neural vocoders leave behind comes from learnt up-sampling and from phase that is invented: both networks
here up-sample by transposed convolutions. `mel` is a vocoder from a mel spectrogram in the manner of HiFi-GAN
(Kong, Kim and Bae, NeurIPS 2020), much smaller; `istft` ends in an inverse Fourier transform (Kaneko, Tanaka,
Kameoka and Seki, iSTFTNet, ICASSP 2022); `codec` is a convolutional autoencoder of the waveform with a quantised
code, in the manner of SoundStream (Zeghidour et al., 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.logmel import LogMel, level_normalise
from avdetect.errors import WeightsError
from avdetect.weights import load_strict, read_metadata, read_state, write_safetensors

NETWORKS = ("mel", "codec", "istft")
HOP = 256  # samples of a frame, of all networks
SLOPE = 0.1  # of the leaky rectifiers
FINE = 16  # transform of the last layer of `istft`
LEVELS = 9  # values of each number of the code


class Residual(nn.Module):
    """Two dilated convolutions around a shortcut: (N, C, T) -> (N, C, T)."""

    def __init__(self, channels: int, dilations: tuple[int, ...] = (1, 3, 9)):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, dilation=d, padding=d) for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) -> (N, C, T)."""
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, SLOPE))
        return x


def _decoder(inputs: int, widths: tuple[int, ...], rates: tuple[int, ...], outputs: int) -> nn.Sequential:
    """(N, inputs, T) -> (N, outputs, T * product of rates)."""
    layers: list[nn.Module] = [nn.Conv1d(inputs, widths[0], 7, padding=3)]
    for before, after, rate in zip(widths, widths[1:], rates, strict=False):
        layers += [
            nn.LeakyReLU(SLOPE),
            nn.ConvTranspose1d(before, after, 2 * rate, rate, rate // 2),
            Residual(after),
        ]
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE), nn.Conv1d(widths[-1], outputs, 7, padding=3))


def _initialise(module: nn.Module) -> None:
    """Weights that keep the level from layer to layer: the default ones let a deep network begin near silence."""
    if isinstance(module, nn.ConvTranspose1d):
        seen = module.in_channels * module.kernel_size[0] / module.stride[0]  # inputs of one output
        nn.init.normal_(module.weight, std=(2 / seen) ** 0.5)
    elif isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, SLOPE)
    elif isinstance(module, Residual):
        for layer in module.layers:
            layer.weight.data.mul_(0.3)
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        nn.init.zeros_(module.bias)


class Vocoder(nn.Module):
    """Waveform (N, T) -> what it becomes when it is analysed and generated anew (N, T).

    kind: one of `NETWORKS`; width: channels of the first layer, halved by every up-sampling.
    """

    def __init__(self, kind: str, width: int = 128, bands: int = 80, sample_rate: int = 16000):
        super().__init__()
        if kind not in NETWORKS:
            raise ValueError(f"unknown vocoder {kind!r}: one of {', '.join(NETWORKS)}")
        self.kind, self.width, self.bands, self.sample_rate = kind, width, bands, sample_rate
        rates = (8, 8) if kind == "istft" else (8, 8, 4)
        widths = tuple(max(8, width >> place) for place in range(len(rates) + 1))
        if kind == "codec":
            code = bands // 2
            encoder: list[nn.Module] = [nn.Conv1d(1, widths[-1], 7, padding=3)]
            for before, after, rate in zip(widths[::-1], widths[-2::-1], rates[::-1], strict=False):
                encoder += [
                    nn.LeakyReLU(SLOPE),
                    nn.Conv1d(before, after, 2 * rate, rate, rate // 2),
                    Residual(after),
                ]
            self.encoder = nn.Sequential(
                *encoder, nn.LeakyReLU(SLOPE), nn.Conv1d(widths[0], code, 3, padding=1)
            )
            self.decoder = _decoder(code, widths, rates, 1)
        else:
            self.front_end = LogMel(sample_rate, 1024, 1024, HOP, bands, 0.0, sample_rate / 2)
            self.decoder = _decoder(bands, widths, rates, FINE + 2 if kind == "istft" else 1)
            self.register_buffer("window", torch.hann_window(FINE), persistent=False)

        self.apply(_initialise)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) at a level (RMS) of about 1, T a multiple of `HOP` -> (N, T)."""
        if self.kind == "codec":
            code = LEVELS / 2 * torch.tanh(self.encoder(waveform[:, None]))
            code = code + (code.round() - code).detach()  # the gradient passes through the rounding
            return self.decoder(code / LEVELS)[:, 0].float()
        frames = self.front_end(waveform)[:, :, : waveform.shape[1] // HOP]
        out = self.decoder(0.3 * (frames + 4.0)).float()  # the logarithms lie around -4
        if self.kind == "mel":
            return out[:, 0]
        size, phase = out[:, : FINE // 2 + 1].clamp(max=4.0).exp(), out[:, FINE // 2 + 1 :]
        spectrum = F.pad(torch.polar(size, torch.pi * torch.sin(phase)), (0, 1), mode="replicate")
        return torch.istft(spectrum, FINE, FINE // 4, window=self.window, length=waveform.shape[1])


@dataclass(frozen=True)
class VoiceGenerators:
    """Trained networks, in the order of their names."""

    networks: tuple[Vocoder, ...]
    names: tuple[str, ...]

    def copy(self, waveform: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """float32 (T,) -> its copy (T,) at the same level by a network drawn with `rng`, and the network's name."""
        place = int(rng.integers(len(self.networks)))
        return resynthesise(self.networks[place], waveform), self.names[place]


@torch.inference_mode()
def resynthesise(network: Vocoder, waveform: np.ndarray) -> np.ndarray:
    """float32 (T,) -> float32 (T,), as loud (RMS) as before; digital silence stays."""
    loudness = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    if loudness == 0.0:
        return waveform.copy()
    padded = np.pad(waveform, (0, max(4 * HOP, -(-waveform.size // HOP) * HOP) - waveform.size))
    copy = network(level_normalise(torch.from_numpy(padded.astype(np.float32))[None]))[0, : waveform.size]
    return (level_normalise((copy - copy.mean())[None])[0] * loudness).numpy()


def save_generator(network: Vocoder, path: Path) -> None:
    """Write a network and its sizes to a `.safetensors` file."""
    settings = {name: getattr(network, name) for name in ("kind", "width", "bands", "sample_rate")}
    write_safetensors(network.state_dict(), path, {"vocoder": settings})


def load_generator(path: Path) -> Vocoder:
    """The network that `save_generator` wrote, for use. Raises WeightsError where the file holds another thing."""
    settings = read_metadata(path).get("vocoder")
    if not isinstance(settings, dict):
        raise WeightsError(
            f"{path} holds no voice generator: train them by the stage generators of a recipe."
        )
    network = Vocoder(**settings)
    load_strict(network, read_state(path), str(path))
    return network.eval().requires_grad_(False)


def load_generators(folder: str | Path) -> VoiceGenerators:
    """All networks `voice-*.safetensors` of a folder. Raises WeightsError where there is none."""
    paths = sorted(Path(folder).glob("voice-*.safetensors"))
    if not paths:
        raise WeightsError(
            f"{folder} holds no voice-*.safetensors: run the stage generators of a recipe first."
        )
    return VoiceGenerators(tuple(load_generator(p) for p in paths), tuple(p.stem for p in paths))
