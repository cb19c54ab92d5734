"""From a prepared set and a configuration to the training task of an encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, Subset

from avdetect.data import PreparedSet, require_both_classes
from avdetect.data.loaders import FaceCropDataset, LipSyncDataset, PreparedRows, VoiceDataset, collate
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError, DataError
from avdetect.recipes.pseudo_tasks import face_pair_task
from avdetect.recipes.sync_tasks import sync_task
from avdetect.recipes.voice_pair_tasks import voice_pair_task
from avdetect.training import Adversarial, BinaryLoss, EncoderTask, LipSyncTask, Task, TripletTask
from avdetect.training.sampling import BalancedBatches, ShuffledBatches, TripletBatches, fixed_triplets
from avdetect.training.tasks import SHIFTS
from avdetect.training.ucf import UCFTask, UCFWeights
from avdetect.transforms import AudioAugment, LipSyncAugment, VisualAugment

_COMMON = {"batch", "batches_per_epoch", "loader_workers", "augment", "fit"}
_OBJECTIVE = {"loss", "smoothing", "adversarial", "sampling", "pair_by_source"}
TRAIN_KEYS = {
    "visual": _COMMON | _OBJECTIVE | {"method", "triplet", "ucf", "crops_per_clip", "val_crops", "pseudo"},
    "audio": _COMMON | _OBJECTIVE | {"window_s", "pseudo"},
    "lipsync": _COMMON | {"frames", "pseudo"},
}


def encoder_task(
    modality: str, encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int
) -> Task:
    """The task of one modality; `settings` as in configs/train.

    Raises DataError where a class is missing, ConfigError for settings that the modality does not have.
    """
    if unknown := sorted(set(settings) - TRAIN_KEYS[modality]):
        known = ", ".join(sorted(TRAIN_KEYS[modality]))
        raise ConfigError(f"train.{modality} has no setting {', '.join(unknown)}; it knows {known}")
    return {"visual": _visual, "audio": _audio, "lipsync": _lipsync}[modality](
        encoder, prepared, settings, seed
    )


def _rows(prepared: PreparedSet, stage: str, **options: Any):
    parts = []
    for split in ("train", "val"):
        rows = prepared.rows(stage, split, **options)
        if stage != "lipsync":
            require_both_classes(rows, stage, f"the {split} split")
        parts.append(rows)
    return parts


def visual_method(settings: dict[str, Any]) -> str:
    """How the visual encoder is trained; raises ConfigError for a name that is not known."""
    method = settings.get("method") or "supervised"
    if method not in ("supervised", "siamese", "ucf"):
        raise ConfigError(f"unknown train.visual.method {method!r}: use supervised, siamese or ucf")
    if method == "siamese" and not settings.get("triplet"):
        raise ConfigError(
            "train.visual.method=siamese needs the figures of train.visual.triplet: add train=ispl_siamese"
        )
    return method


def _visual(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    if settings.get("pseudo"):
        return face_pair_task(encoder, prepared, settings, seed)
    train, val = _rows(prepared, "visual")
    pre, crops = encoder.preprocess, settings["crops_per_clip"]
    options = {"training": True, "seed": seed, "augment": VisualAugment.from_dict(settings["augment"])}
    dataset = FaceCropDataset(prepared, train, pre, crops, track="any", **options)
    val_set = FaceCropDataset(prepared, val, pre, settings["val_crops"])
    loaders = _loaders(dataset, val_set, settings, seed)
    if visual_method(settings) == "ucf":
        if settings["smoothing"] or settings.get("loss") or settings.get("adversarial"):
            raise ConfigError(
                "train.visual.method=ucf has losses of its own (train.visual.ucf): leave loss, smoothing and "
                "adversarial at their defaults"
            )
        return UCFTask("visual", encoder, *loaders, UCFWeights.from_dict(settings.get("ucf") or {}))
    return EncoderTask("visual", encoder, *loaders, *_objective(settings))


def triplet_task(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    """The first stage of Siamese training; `settings` of train.visual, with its own figures in `triplet`.

    Validation is on triplets drawn once, one anchored at each clip, without augmentation.
    """
    train, val = _rows(prepared, "visual")
    pre, triplet, workers = encoder.preprocess, settings["triplet"], settings["loader_workers"]
    options = {"training": True, "seed": seed, "track": "any"}
    augment = VisualAugment.from_dict(settings["augment"])
    dataset = FaceCropDataset(prepared, train, pre, settings["crops_per_clip"], augment=augment, **options)
    sampler = TripletBatches(dataset.labels, triplet["batch"], seed, triplet["batches_per_epoch"])
    # As a subset it is not told of new epochs: the crops stay the same as well.
    val_set = FaceCropDataset(prepared, val, pre, 1, **options)
    fixed = Subset(val_set, fixed_triplets(val_set.labels, seed))
    keep = {"collate_fn": collate, "num_workers": workers, "persistent_workers": workers > 0}
    train_loader = DataLoader(dataset, batch_sampler=sampler, **keep)
    val_loader = DataLoader(fixed, batch_size=sampler.batch_size, **keep)
    return TripletTask("visual-triplet", encoder, train_loader, val_loader, triplet["margin"])


def _audio(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    if settings.get("pseudo"):
        return voice_pair_task(encoder, prepared, settings, seed)
    train, val = _rows(prepared, "audio")
    window_s = settings["window_s"]
    # Weights that are kept keep the window that belongs to them.
    if window_s is not None and settings["fit"]["epochs"] > 0:
        encoder.preprocess = replace(encoder.preprocess, window_s=window_s, hop_s=window_s / 2)
    pre = encoder.preprocess
    augment = replace(AudioAugment.from_dict(settings["augment"]), crop_s=pre.window_s)
    dataset = VoiceDataset(prepared, train, pre, training=True, seed=seed, augment=augment)
    val_set = VoiceDataset(prepared, val, pre)
    return EncoderTask("audio", encoder, *_loaders(dataset, val_set, settings, seed), *_objective(settings))


def _objective(settings: dict[str, Any]) -> tuple[BinaryLoss, Adversarial | None]:
    """The loss of an encoder's stage, and how its inputs are perturbed, if they are."""
    loss = {"smoothing": settings["smoothing"], **(settings.get("loss") or {})}
    adversarial = settings.get("adversarial")
    return BinaryLoss.from_dict(loss), None if adversarial is None else Adversarial.from_dict(adversarial)


def _lipsync(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    if settings.get("pseudo"):
        return sync_task(encoder, prepared, settings, seed)
    frames = settings["frames"]
    train, val = _rows(prepared, "lipsync", min_mouths=frames)
    # Genuine clips alone: the fakes of this task are made on the fly.
    train, val = train[train["truth"] == 0], val[val["truth"] == 0]
    for name, rows in (("train", train), ("val", val)):
        if rows.empty:
            raise DataError(
                f"the {name} split has no genuine talking face of {frames / 25:.1f} s: take lipsync out of "
                "modalities, or lower train.lipsync.frames"
            )
    pre, augment = encoder.preprocess, LipSyncAugment.from_dict(settings["augment"])
    options = {"frames": frames, "context": SHIFTS[1]}
    dataset = LipSyncDataset(prepared, train, pre, **options, training=True, seed=seed, augment=augment)
    val_set = LipSyncDataset(prepared, val, pre, **options, spans=2)
    train_loader, val_loader = _loaders(dataset, val_set, settings, seed, balanced=False)
    return LipSyncTask(encoder, train_loader, val_loader, seed)


def _loaders(
    train: PreparedRows, val: PreparedRows, settings: dict[str, Any], seed: int, balanced: bool = True
) -> tuple[DataLoader, DataLoader]:
    size, batches, workers = settings["batch"], settings["batches_per_epoch"], settings["loader_workers"]
    for name, value, least in (
        ("batch", size, 1),
        ("batches_per_epoch", batches, 1),
        ("loader_workers", workers, 0),
    ):
        if value is not None and not (isinstance(value, int) and value >= least):
            raise ConfigError(
                f"the training setting {name} is {value!r}: it must be a whole number, {least} or more"
            )
    sampling = settings.get("sampling") or "balanced"
    if sampling not in ("balanced", "shuffled"):
        raise ConfigError(f"unknown sampling {sampling!r}: use balanced or shuffled")
    if balanced and sampling == "balanced":
        rows = train.table
        groups = rows["source"].fillna(rows["key"]).to_numpy() if settings["pair_by_source"] else None
        sampler = BalancedBatches(train.labels, size, seed, batches, groups)
    else:
        sampler = ShuffledBatches(len(train), size, seed, batches)
    keep = workers > 0
    return (
        DataLoader(
            train, batch_sampler=sampler, collate_fn=collate, num_workers=workers, persistent_workers=keep
        ),
        DataLoader(val, batch_size=size, collate_fn=collate, num_workers=workers, persistent_workers=keep),
    )
