"""UCF: what all forgeries share, told apart from content and from the fingerprints of single methods.

Yan et al., "UCF: Uncovering Common Features for Generalizable Deepfake Detection", ICCV 2023; layers and sizes
as in the DeepfakeBench implementation, whose checkpoints `load_published` reads. A prediction needs one of the
two encoders and the shared branch; the rest serves training alone (`avdetect.training.ucf`).
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import timm
import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.encoders.visual.ucf_decoder import ENLARGED, ConditionalDecoder
from avdetect.encoders.visual.xception import ENTRY_FLOW, EXIT_FLOW, MIDDLE_BLOCKS, Xception
from avdetect.errors import ConfigError
from avdetect.transforms import VisualPreprocess
from avdetect.weights import load_strict

GENUINE, FAKE = 0, 1  # the shared head's outputs

# DeepfakeBench -> ours
_PREFIXES = {
    "encoder_f.": "fingerprint_encoder.",
    "encoder_c.": "content_encoder.",
    "block_spe.conv2d.": "specific_block.",
    "block_sha.conv2d.": "shared_block.",
    "head_spe.mlp.": "specific_head.",
    "head_sha.mlp.": "shared_head.",
    "con_gan.dconv_up3.": "decoder.stages.0.",
    "con_gan.dconv_up2.": "decoder.stages.1.",
    "con_gan.dconv_up1.": "decoder.stages.2.",
    "con_gan.conv_last.": "decoder.colours.",
}
# Left out: both encoders are published with Xception's own classifier, which UCF never calls.
_NEVER_CALLED = ("encoder_f.last_linear.", "encoder_c.last_linear.")


class Disentangled(NamedTuple):
    """The parts of N images of side S; h = S / 32."""

    content: Tensor  # (N, 2 width, h, h)
    specific_map: Tensor  # (N, width, h, h)
    shared_map: Tensor  # (N, width, h, h)
    specific: Tensor  # (N, width), pooled
    shared: Tensor  # (N, width), pooled: the embedding
    specific_logits: Tensor  # (N, methods): genuine, then the methods of manipulation
    shared_logits: Tensor  # (N, 2): genuine, fake


class UCF(Encoder):
    """Two Xceptions (content, fingerprint), two branches on the fingerprint (specific, shared), a decoder.

    size: side of the input, a multiple of 32 from 64 on; methods: classes of the specific head, genuine and
    every method of manipulation that is trained on; width: channels of a branch; entry, middle, last: of both
    Xceptions. `dropout` acts on the *logits* of both heads (so in the published code), `decoder_dropout` on the
    decoder's enlarged maps. pretrained starts both Xceptions from ImageNet weights (timm downloads them), as
    the publishers did; `ConfigError` where their channels are not the published ones.
    """

    kind = "visual"
    head_prefixes: ClassVar[tuple[str, ...]] = ("shared_head",)
    training_only: ClassVar[tuple[str, ...]] = (
        "content_encoder",
        "specific_block",
        "specific_head",
        "decoder",
    )

    def __init__(
        self,
        size: int = 256,
        methods: int = 5,
        width: int = 256,
        dropout: float = 0.2,
        decoder_dropout: float = 0.3,
        entry: tuple[int, int, int, int, int] = ENTRY_FLOW,
        middle: int = MIDDLE_BLOCKS,
        last: tuple[int, int, int] = EXIT_FLOW,
        pretrained: bool = False,
        name: str = "ucf",
    ) -> None:
        if size < 2 * ENLARGED or size % ENLARGED:
            raise ConfigError(
                f"The size of {name} is {size} pixels, but its decoder needs a multiple of {ENLARGED} "
                f"from {2 * ENLARGED} on; use 256, as published."
            )
        if methods < 2:
            raise ConfigError(
                f"The setting methods of {name} is {methods}; it counts genuine images and every method of "
                "manipulation, so give 2 or more."
            )
        settings = {
            "size": size,
            "methods": methods,
            "width": width,
            "dropout": dropout,
            "decoder_dropout": decoder_dropout,
            "entry": list(entry),
            "middle": middle,
            "last": list(last),
            "pretrained": False,  # a network that is recreated gets its own weights afterwards
        }
        preprocess = VisualPreprocess(size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        super().__init__(name, width, preprocess, settings)
        self.fingerprint_encoder = Xception(tuple(entry), middle, tuple(last), adjust_channel=2 * width)
        self.content_encoder = Xception(tuple(entry), middle, tuple(last), adjust_channel=2 * width)
        self.specific_block, self.shared_block = _branch(width), _branch(width)
        self.specific_head, self.shared_head = _head(width, methods, dropout), _head(width, 2, dropout)
        self.decoder = ConditionalDecoder(width, decoder_dropout)
        if pretrained:
            self._start_from_imagenet()
        # on CPUs, convolutions with the channels innermost take less time
        self.to(memory_format=torch.channels_last)

    def _start_from_imagenet(self) -> None:
        flows = [self.settings[key] for key in ("entry", "middle", "last")]
        if flows != [list(ENTRY_FLOW), MIDDLE_BLOCKS, list(EXIT_FLOW)]:
            raise ConfigError(
                f"There are no pretrained weights for {self.name}, whose Xceptions have other channels than "
                "the published one; leave pretrained off."
            )
        published = timm.create_model("legacy_xception", pretrained=True).state_dict()
        for key in ("fc.weight", "fc.bias"):  # ImageNet's thousand classes
            del published[key]
        for xception in (self.fingerprint_encoder, self.content_encoder):
            fresh = xception.adjust_channel.state_dict(prefix="adjust_channel.")
            load_strict(xception, published | fresh, "timm's legacy_xception")

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) -> the shared branch, pooled (N, width)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return _pool(self.shared_block(self.fingerprint_encoder(x)))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, width) -> (N,) logits, positive = fake: the shared head's fake minus its genuine."""
        logits = self.shared_head(embedding)
        return logits[:, FAKE] - logits[:, GENUINE]

    def disentangle(self, x: Tensor) -> Disentangled:
        """Everything that training compares, of images (N, 3, S, S)."""
        x = x.contiguous(memory_format=torch.channels_last)
        fingerprint = self.fingerprint_encoder(x)
        specific_map, shared_map = self.specific_block(fingerprint), self.shared_block(fingerprint)
        specific, shared = _pool(specific_map), _pool(shared_map)
        return Disentangled(
            content=self.content_encoder(x),
            specific_map=specific_map,
            shared_map=shared_map,
            specific=specific,
            shared=shared,
            specific_logits=self.specific_head(specific),
            shared_logits=self.shared_head(shared),
        )

    def reconstruct(self, fingerprint: Tensor, content: Tensor) -> Tensor:
        """An image (N, 3, S, S) in [-1, 1] from `torch.cat([specific_map, shared_map], dim=1)` and a content."""
        return self.decoder(content, fingerprint)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {_own_key(key): value for key, value in state.items() if not key.startswith(_NEVER_CALLED)}


def _own_key(key: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _pool(maps: Tensor) -> Tensor:
    return maps.mean(dim=(2, 3))


def _branch(width: int) -> nn.Sequential:
    """(N, 2 width, h, h) -> (N, width, h, h), pixel by pixel."""
    return nn.Sequential(
        nn.Conv2d(2 * width, width, 1),
        nn.LeakyReLU(),
        nn.Conv2d(width, width, 1),
        nn.LeakyReLU(),
        nn.Conv2d(width, width, 1),
    )


def _head(width: int, outputs: int, dropout: float) -> nn.Sequential:
    """(N, width) -> logits (N, outputs); as published, the dropout acts on the logits."""
    return nn.Sequential(
        nn.Linear(width, 2 * width), nn.LeakyReLU(), nn.Linear(2 * width, outputs), nn.Dropout(dropout)
    )
