"""From a prepared set and a configuration to the training task of an encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from avdetect.data import PreparedSet, require_both_classes
from avdetect.data.loaders import FaceCropDataset, LipSyncDataset, PreparedRows, VoiceDataset, collate
from avdetect.encoders import Encoder
from avdetect.errors import DataError
from avdetect.training import EncoderTask, LipSyncTask, Task
from avdetect.training.sampling import BalancedBatches, ShuffledBatches
from avdetect.training.tasks import SHIFTS
from avdetect.transforms import AudioAugment, LipSyncAugment, VisualAugment


def encoder_task(
    modality: str, encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int
) -> Task:
    """The task of one modality; `settings` as in configs/train. Raises DataError where a class is missing."""
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


def _visual(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    train, val = _rows(prepared, "visual")
    augment = VisualAugment.from_dict(settings["augment"])
    pre = encoder.preprocess
    dataset = FaceCropDataset(
        prepared,
        train,
        pre,
        settings["crops_per_clip"],
        training=True,
        seed=seed,
        augment=augment,
        track="any",
    )
    val_set = FaceCropDataset(prepared, val, pre, settings["val_crops"])
    return EncoderTask("visual", encoder, *_loaders(dataset, val_set, settings, seed), settings["smoothing"])


def _audio(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    train, val = _rows(prepared, "audio")
    window_s = settings["window_s"]
    encoder.preprocess = pre = replace(encoder.preprocess, window_s=window_s, hop_s=window_s / 2)
    augment = replace(AudioAugment.from_dict(settings["augment"]), crop_s=window_s)
    dataset = VoiceDataset(prepared, train, pre, training=True, seed=seed, augment=augment)
    val_set = VoiceDataset(prepared, val, pre)
    return EncoderTask("audio", encoder, *_loaders(dataset, val_set, settings, seed), settings["smoothing"])


def _lipsync(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
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
    if balanced:
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
