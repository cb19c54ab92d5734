"""The lip-sync task that learns from genuine clips and pseudo-fakes: `train.lipsync.pseudo` is set."""

from __future__ import annotations

from typing import Any

import cv2
import pandas as pd
from torch.utils.data import DataLoader

from avdetect.data import PreparedSet
from avdetect.data.loaders import collate
from avdetect.data.sync_pairs import SyncSpans
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError, DataError
from avdetect.training import Task
from avdetect.training.lipsync import SyncEvidenceTask
from avdetect.training.sampling import ShuffledBatches
from avdetect.transforms.talking import TalkingAugment

SYNC_KEYS = {"spare", "fake_p", "channel"}


def sync_task(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    """Spans of genuine talking faces; `settings` of train.lipsync, with its own figures in `pseudo`.

    pseudo: `spare`, grid frames that a clip must have beyond `frames` (room for other offsets and paces; validation
    takes them all); `fake_p`, how often an out-of-sync version stands beside a span; `channel`
    (transforms.talking.TalkingAugment). Raises ConfigError for others, DataError where a split has no clip that long.
    """
    pseudo, size, workers = settings["pseudo"], settings["batch"], settings["loader_workers"]
    if unknown := sorted(set(pseudo) - SYNC_KEYS):
        known = ", ".join(sorted(SYNC_KEYS))
        raise ConfigError(f"train.lipsync.pseudo has no setting {', '.join(unknown)}; it knows {known}")
    if settings.get("augment"):
        raise ConfigError(
            "train.lipsync.augment is set, but training from pseudo-fakes uses train.lipsync.pseudo.channel: "
            "set it to null"
        )
    if settings["frames"] < encoder.min_frames:
        raise ConfigError(
            f"train.lipsync.frames is {settings['frames']}: {encoder.name} compares spans of {encoder.min_frames} "
            "grid frames or more"
        )
    cv2.setNumThreads(1)  # loader processes and the network share the cores
    frames, longest = settings["frames"], settings["frames"] + pseudo["spare"]
    channel = TalkingAugment.from_dict(pseudo.get("channel") or {})
    train, val = (_genuine(prepared, split, longest) for split in ("train", "val"))
    spans = SyncSpans(prepared, train, encoder.preprocess, frames, True, seed, channel, pseudo["fake_p"])
    val_spans = SyncSpans(prepared, val, encoder.preprocess, longest, seed=seed)
    keep = {"collate_fn": collate, "num_workers": workers, "persistent_workers": workers > 0}
    sampler = ShuffledBatches(len(spans), size, seed, settings["batches_per_epoch"])
    train_loader = DataLoader(spans, batch_sampler=sampler, **keep)
    return SyncEvidenceTask(encoder, train_loader, DataLoader(val_spans, batch_size=size, **keep))


def _genuine(prepared: PreparedSet, split: str, frames: int) -> pd.DataFrame:
    """Genuine rows of a split with a face that is seen for so many grid frames."""
    rows = prepared.rows("lipsync", split, min_mouths=frames)
    rows = rows[rows["truth"] == 0]
    if rows.empty:
        raise DataError(
            f"the {split} split has no genuine talking face of {frames / 25:.1f} s: take lipsync out of modalities, "
            "or lower train.lipsync.frames"
        )
    return rows
