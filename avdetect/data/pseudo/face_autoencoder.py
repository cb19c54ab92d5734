"""Small autoencoders that draw faces anew, as the decoders of face swaps do, and the set of them that was trained.

One encoder, two decoders, each for a half of the people: the arrangement of the common face-swap programs, in which a
face read by the encoder is drawn by the decoder of somebody else. How a decoder enlarges its maps leaves traces of its
own, so there is one network for each way.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from avdetect.errors import ConfigError, WeightsError
from avdetect.weights import load_strict, read_metadata, read_state, write_safetensors

UPSAMPLING = ("transposed", "shuffle", "nearest")
DECODERS = 2


class FaceAutoencoder(nn.Module):
    """(N, 3, side, side) in [0, 1] -> the same, through `code` channels at an eighth of the side.

    upsampling: "transposed" convolutions (4x4, stride 2), "shuffle" (convolution and pixel shuffle) or "nearest"
    (nearest pixel and convolution). side must be a multiple of 8.
    """

    def __init__(self, side: int = 96, upsampling: str = "transposed", width: int = 24, code: int = 16):
        super().__init__()
        if upsampling not in UPSAMPLING or side % 8 or side < 8:
            raise ConfigError(
                f"a face autoencoder cannot have side {side} and upsampling {upsampling!r}: the side must be a "
                f"multiple of 8, the upsampling one of {', '.join(UPSAMPLING)}"
            )
        self.settings = {"side": side, "upsampling": upsampling, "width": width, "code": code}
        widths = [width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in zip([3, *widths[:-1]], widths, strict=True):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.1)]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(widths[-1], code, 1))
        self.decoders = nn.ModuleList(_decoder(widths[::-1], code, upsampling) for _ in range(DECODERS))

    def forward(self, x: Tensor, decoder: int) -> Tensor:
        """Faces drawn by one of the decoders."""
        return torch.sigmoid(self.decoders[decoder](self.encoder(x)))


def _decoder(widths: list[int], code: int, upsampling: str) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(code, widths[0], 1), nn.LeakyReLU(0.1)]
    for before, after in zip(widths, [*widths[1:], widths[-1]], strict=True):
        layers += [*_doubled(before, after, upsampling), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 3, 3, 1, 1))


def _doubled(before: int, after: int, upsampling: str) -> list[nn.Module]:
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(before, after, 4, 2, 1)]
    if upsampling == "shuffle":
        return [nn.Conv2d(before, 4 * after, 3, 1, 1), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, 1, 1)]


class FaceGenerators:
    """Trained networks, at several stages of their training; one is drawn for each track."""

    def __init__(self, networks: list[FaceAutoencoder]):
        self.networks = [network.eval().to(memory_format=torch.channels_last) for network in networks]

    @torch.inference_mode()
    def regenerate(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (k, s, s, 3) RGB -> the faces as one decoder draws them, of the same shape."""
        network = self.networks[int(rng.integers(len(self.networks)))]
        decoder, size = int(rng.integers(DECODERS)), crops.shape[1]
        drawn = network(to_input(crops, network.settings["side"]), decoder)
        pictures = (drawn * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        up = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_LINEAR
        return np.stack([cv2.resize(picture, (size, size), interpolation=up) for picture in pictures])


def to_input(crops: np.ndarray, side: int) -> Tensor:
    """uint8 (k, s, s, 3) -> float32 (k, 3, side, side) in [0, 1], channels innermost in memory."""
    small = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255.0


def save_generator(network: FaceAutoencoder, path: Path) -> None:
    """One network with its settings, in half precision, as a `.safetensors` file."""
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    write_safetensors(state, path, {"face_autoencoder": network.settings})


def load_generators(folder: str | Path) -> FaceGenerators:
    """The networks in `face-*.safetensors` of a folder; raises WeightsError where there is none, or a damaged one."""
    paths = sorted(Path(folder).glob("face-*.safetensors"))
    if not paths:
        raise WeightsError(
            f"{folder} holds no trained face generator (face-*.safetensors): run the generators stage first"
        )
    networks = []
    for path in paths:
        settings = read_metadata(path).get("face_autoencoder")
        if not isinstance(settings, dict):
            raise WeightsError(f"{path} is no face generator of this package: delete it and train it again")
        network = FaceAutoencoder(**settings)
        load_strict(network, {name: value.float() for name, value in read_state(path).items()}, str(path))
        networks.append(network)
    return FaceGenerators(networks)
