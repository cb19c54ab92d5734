"""Training of one encoder: where it starts from, its stages, and what is written down about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from avdetect.data import PreparedSet
from avdetect.encoders import Encoder, create_encoder
from avdetect.errors import ConfigError
from avdetect.recipes.tasks import encoder_task, triplet_task, visual_method
from avdetect.training import FitResult, FitSettings, fit
from avdetect.training.history import History


def start_encoder(config: dict[str, Any]) -> Encoder:
    """The network of an encoder's configuration, with the weights that it starts from.

    `weights`: a file of this package or a name of the catalogue; `published`: a file as its publisher made it;
    `preprocess`: fields of its preprocessing that shall differ, as {clahe: true}.
    """
    published = config.get("published")
    if published is not None and config["weights"] is not None:
        raise ConfigError(
            f"{config['name']} has both weights and published: one file can be started from, set the other to null"
        )
    settings = config["settings"]
    if misplaced := sorted({"name", "weights", "published"} & set(settings)):
        raise ConfigError(
            f"settings of {config['name']} hold {misplaced[0]}, which stands beside settings, not in them"
        )
    encoder = create_encoder(config["name"], weights=config["weights"], **settings)
    if published is not None:
        if not isinstance(published, str):
            raise ConfigError(
                f"published of {config['name']} is {published!r}: it must be the path of a file"
            )
        encoder = encoder.load_published(published)
    own = config.get("preprocess")
    if own:
        if fixed := sorted({"size", "mean", "std"} & set(own)):
            # some networks compute with these themselves: changed here alone, the two would differ
            raise ConfigError(
                f"preprocess of {config['name']} sets {', '.join(fixed)}, which belong to the network: give "
                "size in settings, and leave mean and std"
            )
        encoder.preprocess = type(encoder.preprocess).from_dict({**encoder.preprocess.to_dict(), **own})
    return encoder


def fit_encoder(
    modality: str,
    encoder: Encoder,
    prepared: PreparedSet,
    train: dict[str, Any],
    seed: int,
    folders: Callable[[str], Path],
    history: History,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train an encoder in all its stages, each resumable by itself, and return what to write down.

    `train` as in configs/train for this modality; `folders` gives the folder of a stage's checkpoints.
    """
    settings = fit_settings(train["fit"], seed)
    method = visual_method(train) if modality == "visual" else "supervised"
    result: dict[str, Any] = {}
    task = encoder_task(modality, encoder, prepared, train, seed)
    _try_out(encoder)
    rate = getattr(encoder.preprocess, "sample_rate", prepared.settings.sample_rate)
    if rate != prepared.settings.sample_rate:
        raise ConfigError(
            f"{encoder.name} takes sound at {rate} Hz, but clips are prepared at {prepared.settings.sample_rate} Hz: "
            f"set clip.sample_rate={rate}"
        )
    if method != "ucf":  # nothing else uses these parts
        settings = replace(settings, freeze=(*settings.freeze, *encoder.training_only))
    if method == "siamese" and settings.epochs > 0:
        triplets = triplet_task(encoder, prepared, train, seed)
        first = fit_settings(train["triplet"]["fit"], seed)
        first = replace(first, freeze=(*first.freeze, *encoder.head_prefixes, *encoder.training_only))
        result["triplet"] = fitted(fit(triplets, first, folders(triplets.name), history, say))
        settings = replace(settings, freeze_features=True)
    return fitted(fit(task, settings, folders(task.name), history, say)) | result


def _try_out(encoder: Encoder) -> None:
    """Raise ConfigError where a network cannot judge inputs of the size that its preprocessing makes."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            encoder.eval()(*encoder.example_inputs(1))
    except (LookupError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{encoder.name} cannot judge inputs as its preprocessing makes them ({encoder.preprocess}): {reason}; "
            "change the settings that give their size"
        ) from error


def fit_settings(values: dict[str, Any], seed: int) -> FitSettings:
    """From the `fit` of a configuration; the run's seed where it names none."""
    return FitSettings.from_dict({"seed": seed, **values})


def fitted(result: FitResult) -> dict[str, Any]:
    """What a stage writes down of its training."""
    said = {
        "selected_on": "validation",
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "validation": result.metrics,
    }
    return (
        said if result.epochs else {"note": "not trained: the weights were kept as they were given", **said}
    )
