"""Encoders on the Hugging Face Hub: a folder with the weights, a configuration and a model card.

Imported by `Encoder.save_pretrained`, `push_to_hub` and `from_pretrained` only when they are called, for
huggingface_hub takes a tenth of a second to import, which every prediction would pay.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from avdetect.encoders.base import Encoder
from avdetect.encoders.registry import describe_encoder, load_encoder, save_encoder
from avdetect.errors import WeightsError

WEIGHTS_NAME = constants.SAFETENSORS_SINGLE_FILE
PIPELINES = {
    "visual": "image-classification",
    "audio": "audio-classification",
}  # the Hub has none for lip-sync
INPUTS = {
    "visual": "face crops",
    "audio": "a mono waveform",
    "lipsync": "mouth crops and the waveform that belongs to them",
}

CARD = """---
{{ card_data }}
---

# {{ name }}

Tells genuine from manipulated media: the {{ kind }} encoder `{{ name }}` of
[avdetect](https://github.com/avdetect/avdetect).

- **Paper:** {{ paper }}
- **Changes to it:** {{ changes }}
- **Parameters:** {{ parameters }}
- **Input:** {{ input }}; preprocessing (in `config.json`): `{{ preprocess }}`
- **Output:** one logit; positive means *fake*, its sigmoid is P(fake). `embed` gives {{ embedding_dim }} features.

## How to load

```python
from avdetect.encoders import Encoder

encoder = Encoder.from_pretrained("{{ repo_id }}")  # in evaluation mode
logits = encoder(encoder.preprocess(...))           # (N,), positive = fake
```

The weights are a safetensors file: loading them runs no code from the repository.

## Intended use

Research on, and assistance in, the detection of manipulated media. A score is evidence, not proof: it holds for
media like those the network was trained on, and should not be the only ground for a decision about a person.

## Training data

{{ training_data }}

## Metrics

{{ metrics }}

## Licence of the weights

{{ license }}
"""


class HubFolder(
    ModelHubMixin, library_name="avdetect", model_card_template=CARD, tags=["deepfake-detection"]
):
    """An encoder with what its model card says, as huggingface_hub saves and uploads it.

    The mixin stands beside `Encoder`, not below it, so that networks are built without it.
    """

    def __init__(
        self,
        encoder: Encoder,
        license: str | None = None,
        training_data: str | None = None,
        metrics: Mapping[str, float | str] | None = None,
    ) -> None:
        self.encoder = encoder
        self.license = license
        self.training_data = training_data
        self.metrics = dict(metrics or {})
        self.repo_id = "FOLDER_OR_REPOSITORY"

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """As the mixin's; the card names the repository in its example."""
        self.repo_id = repo_id
        return super().push_to_hub(repo_id, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_encoder(self.encoder, save_directory / WEIGHTS_NAME)
        text = json.dumps(config_of(self.encoder), indent=2, sort_keys=True)
        (save_directory / constants.CONFIG_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        config: dict[str, Any] | None = None,
        **_: Any,  # entries of a foreign config.json that are named like arguments of __init__
    ) -> "HubFolder":
        if config is None or "name" not in config:
            raise WeightsError(
                f"{model_id} has no {constants.CONFIG_NAME} of an avdetect encoder; save one with save_pretrained."
            )
        path = Path(model_id) / WEIGHTS_NAME
        if not Path(model_id).is_dir():
            path = hf_hub_download(
                model_id,
                WEIGHTS_NAME,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        encoder = load_encoder(path, config["name"])
        own = config_of(encoder)
        if differing := sorted(key for key in own if config.get(key) != own[key]):
            raise WeightsError(
                f"{constants.CONFIG_NAME} of {model_id} does not belong to its {WEIGHTS_NAME}: they differ in"
                f" {', '.join(differing)}; save it again with save_pretrained."
            )
        return cls(encoder)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The README.md: what the network is, what the caller said of its training, and how to load it."""
        encoder = self.encoder
        about = describe_encoder(encoder.name)
        shapes = [["N", *x.shape[1:]] for x in encoder.example_inputs(1)]
        data = ModelCardData(
            library_name="avdetect",
            license=self.license,
            pipeline_tag=PIPELINES.get(encoder.kind),
            tags=["avdetect", "deepfake-detection", encoder.kind, encoder.name],
        )
        rows = [f"| {name} | {value} |" for name, value in self.metrics.items()]
        return ModelCard.from_template(
            data,
            template_str=CARD,
            name=encoder.name,
            kind={"lipsync": "lip-sync"}.get(encoder.kind, encoder.kind),
            paper=about.paper,
            changes=about.changes,
            parameters=f"{sum(p.numel() for p in encoder.parameters()):,}",
            input=f"{INPUTS[encoder.kind]}, " + ", ".join(f"({', '.join(map(str, s))})" for s in shapes),
            preprocess=json.dumps(encoder.preprocess.to_dict()),
            embedding_dim=encoder.embedding_dim,
            repo_id=self.repo_id,
            training_data=self.training_data or "Not stated.",
            metrics="\n".join(["| metric | value |", "|---|---|", *rows]) if rows else "Not stated.",
            license=self.license or "Not stated: ask whoever published them before use.",
        )


def config_of(encoder: Encoder) -> dict[str, Any]:
    """What `config.json` holds: enough to recreate the network and its preprocessing."""
    return {
        "name": encoder.name,
        "kind": encoder.kind,
        "settings": encoder.settings,
        "preprocess": encoder.preprocess.to_dict(),
        "embedding_dim": encoder.embedding_dim,
    }


def load_from_hub(folder_or_repo: str | Path, **options: Any) -> Encoder:
    """The encoder in a folder or a repository of the Hub; raises `WeightsError` where there is none."""
    try:
        return HubFolder.from_pretrained(folder_or_repo, **options).encoder
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{folder_or_repo} is neither a folder of save_pretrained nor a repository of the Hub that can be"
            f" reached ({reason})."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError, AttributeError) as error:
        # AttributeError: huggingface_hub takes it for an object, whatever it holds
        raise WeightsError(f"{constants.CONFIG_NAME} of {folder_or_repo} is damaged ({error}).") from error
