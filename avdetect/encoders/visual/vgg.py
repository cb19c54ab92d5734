"""VGG-16 as it was trained to recognise faces (VGGFace), with one binary head.

Parkhi, Vedaldi and Zisserman, "Deep Face Recognition", BMVC 2015: thirteen 3x3 convolutions in five blocks,
two dense layers of 4096 (fc6, fc7) and one output for each of 2,622 identities (fc8), which is replaced.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.encoders.visual.backbones import keep_own_head
from avdetect.transforms import IMAGENET_MEAN, IMAGENET_STD, VisualPreprocess

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of each block
GRID = 7  # side of the maps that fc6 reads

# The published mean (129.1863, 104.7624, 93.5940) of R, G and B; values stay on the 0..255 scale.
VGGFACE_MEAN = (129.1863 / 255, 104.7624 / 255, 93.5940 / 255)
VGGFACE_STD = (1 / 255, 1 / 255, 1 / 255)
TYPICAL_INPUT = 64.0  # standard deviation of such values
TORCHVISION_KEY = "features.0.weight"  # by which torchvision's layout is told from those of VGGFace


def _features() -> tuple[nn.Sequential, dict[str, int]]:
    """The convolutions, and the index of each by its published name ("1_1" to "5_3")."""
    layers: list[nn.Module] = []
    places: dict[str, int] = {}
    channels = 3
    for block, (width, count) in enumerate(BLOCKS, 1):
        for number in range(1, count + 1):
            places[f"{block}_{number}"] = len(layers)
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers), places


class VGG16(Encoder):
    """134,264,641 parameters. `embed` is fc7 after its ReLU; maps of other inputs than 224 are pooled to 7x7.

    dense is the width of fc6 and fc7 (4096 in the publication); dropout follows each of them.

    `load_published` reads three layouts:

    - `conv1_1.weight` … `fc8.bias`: Albanie's `vgg_face_dag.pth`, converted from MatConvNet, of RGB.
    - `conv_1_1.weight` … `fc8.bias`: PyTorch ports of the Torch file `VGG_FACE.t7`, of BGR as the Caffe
      original: the channels of the first convolution are turned round here. (The demo of that file subtracts
      the mean of red from blue; here each channel gets its own mean, as with Caffe.)
    - `features.N`, `classifier.N`: torchvision's ImageNet network; `preprocess` becomes torchvision's.

    fc8 (2,622 identities; the 1,000 classes of ImageNet) is left out with a warning: the head has to be
    trained.
    """

    kind = "visual"

    def __init__(self, size: int = 224, dense: int = 4096, dropout: float = 0.5, name: str = "vgg16") -> None:
        preprocess = VisualPreprocess(size, VGGFACE_MEAN, VGGFACE_STD)
        super().__init__(name, dense, preprocess, {"size": size, "dense": dense, "dropout": dropout})
        self.features, self._places = _features()
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.fc6 = nn.Linear(BLOCKS[-1][0] * GRID * GRID, dense)
        self.fc7 = nn.Linear(dense, dense)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, 1)
        self._initialise()
        self.to(memory_format=torch.channels_last)

    def _initialise(self) -> None:
        """He et al. (2015) for all layers with ReLU: without batch norm the input would fade on its way."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) or module in (self.fc6, self.fc7):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.features[0].weight /= TYPICAL_INPUT

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> fc7 (N, dense)."""
        maps = self.features(x.contiguous(memory_format=torch.channels_last))
        hidden = self.dropout(torch.relu(self.fc6(self.pool(maps).flatten(1))))
        return torch.relu(self.fc7(hidden))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of noise as wide as grey values."""
        return (TYPICAL_INPUT * torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _adopt(self, published: Mapping[str, Tensor]) -> None:
        imagenet = TORCHVISION_KEY in published
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if imagenet else (VGGFACE_MEAN, VGGFACE_STD)
        self.preprocess = replace(self.preprocess, mean=mean, std=std)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        dense, head = {}, "fc8"
        if TORCHVISION_KEY in state:
            dense, head = {"classifier.0": "fc6", "classifier.3": "fc7"}, "classifier.6"
        mapped = {}
        for key, value in state.items():
            layer, _, parameter = key.rpartition(".")
            match = re.fullmatch(r"conv_?(\d_\d)", layer)
            if match and match[1] in self._places:
                layer = f"features.{self._places[match[1]]}"
            if key == "conv_1_1.weight":
                value = value.flip(1)  # BGR -> RGB
            mapped[f"{dense.get(layer, layer)}.{parameter}"] = value
        return keep_own_head(self, mapped, head)
