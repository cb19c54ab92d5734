"""What networks for one face crop share: head, preprocessing, whose published layout they follow."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.errors import ConfigError
from avdetect.transforms import VisualPreprocess

# how each publisher feeds the network: side in pixels and normalisation
PREPROCESS = {
    "ispl": VisualPreprocess(224),  # ImageNet mean and deviation, for Xception too
    "deepfakebench": VisualPreprocess(256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    # EfficientNet-Lite's ImageNet weights: (pixel - 127) / 128
    "lite": VisualPreprocess(224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
}


class FrameClassifier(Encoder):
    """`backbone` -> pooled features -> dropout -> one logit.

    size: side of the input, the layout's (ISPL 224, DeepfakeBench 256) where it is None. layout: "ispl" or
    "deepfakebench", whose preprocessing (and convolution padding, where theirs differ) the network has;
    `load_published` reads either (the keys tell) and sets layout and size to those of the checkpoint.
    siamese: the head is batch norm and a linear layer, trained on features that a triplet loss shaped (the
    "ST" networks of Bonettini et al., ICPR 2020).
    """

    kind = "visual"
    layouts: ClassVar[tuple[str, ...]] = ("ispl",)  # those of which there is such a network
    deepfakebench_head: ClassVar[str] = ""  # DeepfakeBench's name for the last layer

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        size: int | None,
        dropout: float,
        siamese: bool,
        layout: str,
        settings: dict[str, Any],
    ) -> None:
        if layout not in self.layouts:
            raise ConfigError(f"{name} has no layout '{layout}'; it knows {', '.join(self.layouts)}.")
        features = backbone.num_features
        common = {"dropout": dropout, "siamese": siamese}
        super().__init__(name, features, PREPROCESS[layout], {**common, **settings})
        self.backbone = backbone
        self._add_layers()
        self.dropout = nn.Dropout(dropout)
        last = nn.Linear(features, 1)
        self.classifier = nn.Sequential(nn.BatchNorm1d(features), last) if siamese else last
        self._use_layout(layout, size)

    def _add_layers(self) -> None:
        """Layers between backbone and head, for subclasses."""

    def _use_layout(self, layout: str, size: int | None = None) -> None:
        """Work as the publisher's network does, at `size` or at the publisher's."""
        theirs = PREPROCESS[layout]
        self.preprocess = VisualPreprocess(theirs.size if size is None else size, theirs.mean, theirs.std)
        self.settings.update(size=self.preprocess.size, layout=layout)

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _adopt(self, published: Mapping[str, Tensor]) -> None:
        self._use_layout(self._layout_of(published))

    def _layout_of(self, published: Mapping[str, Tensor]) -> str:
        return "deepfakebench" if f"backbone.{self.deepfakebench_head}.weight" in published else "ispl"

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        layout = self._layout_of(state)
        prefix = "backbone." if layout == "deepfakebench" else "feat_ext." if self.settings["siamese"] else ""
        mapped = {}
        for key, value in state.items():
            bare = key.removeprefix(prefix)
            own = self._own_key(bare, layout)
            if own is None:
                continue
            if own.startswith("classifier.") and layout == "deepfakebench" and len(value) == 2:
                value = value[1:] - value[:1]  # their outputs are (real, fake): the logit of their softmax
            elif own.startswith("classifier.") and key.startswith("feat_ext."):
                continue  # the head before the Siamese training, which the published network does not call
            mapped[key if own == bare else own] = value
        return mapped

    def _own_key(self, key: str, layout: str) -> str | None:
        """A publisher's key, without its prefix -> ours; an unknown one as it is, one without use None."""
        raise NotImplementedError
