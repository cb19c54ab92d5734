"""Two plain convolutional networks: a baseline of four convolutions, and a deeper one for still faces."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.transforms import VisualPreprocess


def _conv_norm(before: int, after: int, bias: bool) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=bias), nn.BatchNorm2d(after), nn.ReLU()]


class PooledCNN(Encoder):
    """Blocks of convolutions, a mean over all places, and one output; takes any size that its poolings leave.

    `head` makes the embedding (N, embedding_dim) of the pooled maps.
    """

    kind = "visual"

    def __init__(
        self,
        name: str,
        blocks: list[nn.Module],
        head: nn.Module,
        embedding_dim: int,
        settings: dict[str, int | float | list[int]],
    ) -> None:
        super().__init__(name, embedding_dim, VisualPreprocess(settings["size"]), settings)
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.dropout = nn.Dropout(settings["dropout"])
        self.classifier = nn.Linear(embedding_dim, 1)
        self.to(memory_format=torch.channels_last)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, embedding_dim)."""
        maps = self.blocks(x.contiguous(memory_format=torch.channels_last))
        return self.head(maps.mean(dim=(2, 3)))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)


class BaselineCNN(PooledCNN):
    """Four times 3x3 convolution, batch norm, ReLU and 2x2 max-pool; mean over places; dense layer; one output.

    The reference project gives no layers but two figures: 423,361 for this network, and 24,233 for Meso4 at 224
    pixels. The second is Keras' total, which counts the running statistics of batch norms in (24,137 + 96). So
    does the first, then: 422,401 parameters and 960 statistics, which is what channels of 32, 64, 128, 256 with
    a dense layer of 128 come to. Where the norm stands and how borders are padded leaves no trace in it.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256),
        dense: int = 128,
        dropout: float = 0.5,
        size: int = 224,
        name: str = "baseline_cnn",
    ) -> None:
        blocks = [
            nn.Sequential(*_conv_norm(before, after, bias=True), nn.MaxPool2d(2))
            for before, after in zip((3, *channels), channels, strict=False)
        ]
        head = nn.Sequential(nn.Linear(channels[-1], dense), nn.ReLU())
        settings = {"channels": list(channels), "dense": dense, "dropout": dropout, "size": size}
        super().__init__(name, blocks, head, dense, settings)


class CustomCNN(PooledCNN):
    """Pairs of 3x3 convolutions with batch norm and ReLU, a 2x2 max-pool between pairs, a mean over all places.

    The first pair works at full resolution with few channels: what betrays a generated still face is fine, and
    a stride there would lose it. The mean keeps the head small, so that few thousand faces can train it. Ten
    convolutions, 1.7 M parameters, 1.7 G multiplications for a face of 224 pixels.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48, 96, 192, 256),
        dropout: float = 0.4,
        size: int = 224,
        name: str = "custom_cnn",
    ) -> None:
        blocks = []
        for index, (before, after) in enumerate(zip((3, *channels), channels, strict=False)):
            pool = [nn.MaxPool2d(2)] if index else []
            pair = [*_conv_norm(before, after, bias=False), *_conv_norm(after, after, bias=False)]
            blocks.append(nn.Sequential(*pool, *pair))
        settings = {"channels": list(channels), "dropout": dropout, "size": size}
        super().__init__(name, blocks, nn.Identity(), channels[-1], settings)
