"""What every encoder has in common."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from avdetect.errors import WeightsError
from avdetect.transforms.settings import Settings
from avdetect.weights import load_strict, read_state


def full_precision(x: Tensor) -> AbstractContextManager:
    """Suspends mixed precision: spectra overflow in half precision, small distances vanish."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class Encoder(nn.Module):
    """A network that turns its input into an embedding and the embedding into one logit of *fake*.

    `forward(x)` is `classify(embed(x))`. `settings` recreates the network: `create_encoder(name,
    **settings)`. `preprocess` belongs to the weights and makes the network's input from a clip's crops or
    waveform.
    """

    kind: ClassVar[str]  # "visual", "audio" or "lipsync"

    def __init__(self, name: str, embedding_dim: int, preprocess: Settings, settings: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.embedding_dim = embedding_dim
        self.preprocess = preprocess
        self.settings = settings

    def embed(self, x: Tensor) -> Tensor:
        """Input -> (N, embedding_dim)."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Input -> (N,) logits, positive = fake."""
        return self.classify(self.embed(x))

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Random inputs of a valid shape, for export and for tests: `encoder(*encoder.example_inputs())`."""
        raise NotImplementedError

    def load_published(self, checkpoint: str | Path | Mapping[str, Tensor]) -> Self:
        """Load a checkpoint in the layout in which this network was published, from a file or a state_dict.

        Raises `WeightsError` where a key is missing, unexpected or of another shape; nothing is then changed.
        """
        is_state = isinstance(checkpoint, Mapping)
        source = "a state_dict" if is_state else str(checkpoint)
        state = self._map_published(checkpoint if is_state else read_state(checkpoint))
        load_strict(self, state, source)
        return self

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published keys renamed to this network's; keys that are not known stay as they are."""
        raise WeightsError(
            f"No checkpoint was published for {self.name}; weights of this package are loaded with "
            f"create_encoder('{self.name}', weights=PATH)."
        )
