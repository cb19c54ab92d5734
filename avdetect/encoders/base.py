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
    # names of the submodules that `classify` uses; all others make the features
    head_prefixes: ClassVar[tuple[str, ...]] = ("classifier",)
    training_only: ClassVar[tuple[str, ...]] = ()  # names of submodules that `forward` never uses

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
        published = checkpoint if is_state else read_state(checkpoint)
        load_strict(self, self._map_published(published), "a state_dict" if is_state else str(checkpoint))
        self._adopt(published)
        return self

    def _adopt(self, published: Mapping[str, Tensor]) -> None:
        """Take over what the layout of a checkpoint, now loaded, says beside the weights (preprocessing)."""

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published keys renamed to this network's; keys that are not known stay as they are."""
        raise WeightsError(
            f"No checkpoint was published for {self.name}; weights of this package are loaded with "
            f"create_encoder('{self.name}', weights=PATH)."
        )

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        license: str | None = None,
        training_data: str | None = None,
        metrics: Mapping[str, float | str] | None = None,
    ) -> None:
        """Write `model.safetensors`, `config.json` and a model card `README.md` as the Hugging Face Hub has them.

        license: of the weights, as the Hub names it ("apache-2.0", "cc-by-nc-4.0", "other"); training_data and
        metrics: what the card says of them. A README.md that is already there is left alone.
        """
        from avdetect.encoders.hub import HubFolder

        HubFolder(self, license, training_data, metrics).save_pretrained(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        training_data: str | None = None,
        metrics: Mapping[str, float | str] | None = None,
        **options: Any,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub; the address of the commit.

        options: of `huggingface_hub.ModelHubMixin.push_to_hub` (private, token, branch, commit_message, …).
        """
        from avdetect.encoders.hub import HubFolder

        return HubFolder(self, license, training_data, metrics).push_to_hub(repo_id, **options)

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, **options: Any) -> Self:
        """The encoder in a folder of `save_pretrained` or in a repository of the Hub, in evaluation mode.

        Called on `Encoder` it returns whatever network is there; on a subclass, only one of that class. options:
        of `huggingface_hub.ModelHubMixin.from_pretrained` (revision, token, cache_dir, local_files_only, …).
        Raises `WeightsError` where there is none, or one that is damaged or of another class.
        """
        from avdetect.encoders.hub import load_from_hub

        encoder = load_from_hub(folder_or_repo, **options)
        if not isinstance(encoder, cls):
            raise WeightsError(
                f"{folder_or_repo} holds {encoder.name}, which is no {cls.__name__}; use Encoder.from_pretrained."
            )
        return encoder
