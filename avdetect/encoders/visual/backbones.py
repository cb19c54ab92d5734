"""Common image classifiers of timm with one binary head.

They are the usual comparison in the field: ImageNet features, average pooling (the class token for ViT), one
linear layer.
"""

import logging
from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.errors import ConfigError
from avdetect.transforms import VisualPreprocess

logger = logging.getLogger("avdetect")

TIMM_NAMES = {
    "efficientnet_b0": "efficientnet_b0",
    "mobilenetv3_small": "mobilenetv3_small_100",
    "resnet50": "resnet50",
    "densenet121": "densenet121",
    "vit_b16": "vit_base_patch16_224",
}
PATCH = 16  # pixels, of vit_b16


def keep_own_head(encoder: Encoder, state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """`state` without the publisher's layer `head`, and with the present `classifier` of `encoder` instead.

    That layer tells things or people apart, not genuine from fake; a warning says that it is not used.
    """
    dropped = [key for key in state if key.startswith(f"{head}.")]
    if dropped:
        logger.warning(
            "%s: the published classifier %s %s is not used; the network keeps its own, to be trained",
            encoder.name,
            ", ".join(dropped),
            tuple(state[dropped[0]].shape),
        )
    own = {f"classifier.{key}": value for key, value in encoder.classifier.state_dict().items()}
    return {key: value for key, value in state.items() if key not in dropped} | own


class Backbone(Encoder):
    """A network of timm without its classifier -> dropout -> linear layer; `name` says which (`TIMM_NAMES`).

    The mean and standard deviation of `preprocess` are those of timm's ImageNet weights. pretrained starts
    from these weights (timm downloads them). Raises `ConfigError` for a name it does not know, and for a size
    that vit_b16 cannot cut into whole patches.
    """

    kind = "visual"

    def __init__(
        self, size: int = 224, dropout: float = 0.2, pretrained: bool = False, name: str = "resnet50"
    ) -> None:
        if name not in TIMM_NAMES:
            raise ConfigError(f"There is no backbone '{name}'; the names are {', '.join(TIMM_NAMES)}.")
        options = {}
        if name == "vit_b16":
            if size % PATCH or size < PATCH:
                raise ConfigError(
                    f"vit_b16 cuts its input into patches of {PATCH} pixels; "
                    f"give a size that is a multiple of {PATCH}, not {size}."
                )
            options["img_size"] = size
        backbone = timm.create_model(TIMM_NAMES[name], pretrained=pretrained, num_classes=0, **options)
        config = backbone.pretrained_cfg
        super().__init__(
            name,
            backbone.head_hidden_size,
            VisualPreprocess(size, tuple(config["mean"]), tuple(config["std"])),
            # a network that is recreated gets its own weights afterwards
            {"size": size, "dropout": dropout, "pretrained": False},
        )
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.embedding_dim, 1)
        # on CPUs, convolutions with the channels innermost take half to two thirds of the time
        self.to(memory_format=torch.channels_last)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> pooled features (N, embedding_dim)."""
        return self.backbone(x.contiguous(memory_format=torch.channels_last))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's layout, which is torchvision's too for resnet50 and densenet121, without its classes."""
        head = f"{self.backbone.pretrained_cfg['classifier']}."
        features = {key if key.startswith(head) else f"backbone.{key}": value for key, value in state.items()}
        return keep_own_head(self, features, head.removesuffix("."))
