"""Tasks of encoders that learn from fakes made on the fly: `train.MODALITY.pseudo` is set."""

from __future__ import annotations

from typing import Any

import cv2
from torch.utils.data import DataLoader

from avdetect.data import PreparedSet
from avdetect.data.face_pairs import FacePairDataset, PairSettings
from avdetect.data.loaders import collate
from avdetect.data.pseudo.face_autoencoder import load_generators as load_face_generators
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.training import BinaryLoss, Task
from avdetect.training.face_pair_task import FacePairTask, PairWeights
from avdetect.training.sampling import ShuffledBatches
from avdetect.transforms.face_channel import FaceChannel

_PAIR_KEYS = ("labelled", "part", "cache_mb")
FACE_PSEUDO_KEYS = {*_PAIR_KEYS, "weights", "channel", "generators"}


def face_pair_task(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    """Pairs of genuine faces and their fakes; `settings` of train.visual, with its own figures in `pseudo`.

    pseudo: `labelled`, `part` and `cache_mb` (data.face_pairs.PairSettings), `weights`
    (training.face_pair_task.PairWeights), `channel` (transforms.face_channel.FaceChannel) and `generators`, the folder
    of trained ones or None. `batch` counts crops, two a pair; the best epoch is chosen by fakes of genuine clips of
    the val split that never change.
    """
    pseudo = settings["pseudo"]
    if unknown := sorted(set(pseudo) - FACE_PSEUDO_KEYS):
        known = ", ".join(sorted(FACE_PSEUDO_KEYS))
        raise ConfigError(f"train.visual.pseudo has no setting {', '.join(unknown)}; it knows {known}")
    for name in ("augment", "method", "adversarial", "sampling", "loss"):
        if settings.get(name):
            raise ConfigError(
                f"train.visual.{name} is set, but training from pseudo-fakes (train.visual.pseudo) does not use it: "
                "set it to null"
            )
    if settings.get("crops_per_clip", 1) != 1:
        raise ConfigError(
            "training from pseudo-fakes (train.visual.pseudo) takes one crop of a clip at a time: set "
            "train.visual.crops_per_clip to 1"
        )
    if encoder.preprocess.frames != 1:
        raise ConfigError(
            f"{encoder.name} looks at pairs of frames, which are not made into pseudo-fakes: choose another encoder"
        )
    cv2.setNumThreads(1)  # loader processes and the network share the cores
    pairs = PairSettings.from_dict({name: pseudo[name] for name in _PAIR_KEYS if name in pseudo})
    folder = pseudo.get("generators")
    generators = None if folder is None else load_face_generators(folder)
    channel = FaceChannel.from_dict(pseudo.get("channel") or {})
    shared = (encoder.preprocess, pairs, channel, generators)
    train = FacePairDataset(prepared, prepared.rows("visual", "train"), *shared, training=True, seed=seed)
    val = FacePairDataset(
        prepared, prepared.rows("visual", "val"), *shared, crops=settings["val_crops"], seed=seed
    )
    count, workers = max(1, settings["batch"] // 2), settings["loader_workers"]
    sampler = ShuffledBatches(len(train), count, seed, settings["batches_per_epoch"])
    keep = {"collate_fn": collate, "num_workers": workers, "persistent_workers": workers > 0}
    loaders = DataLoader(train, batch_sampler=sampler, **keep), DataLoader(val, batch_size=count, **keep)
    weights = PairWeights.from_dict(pseudo.get("weights") or {})
    return FacePairTask(encoder, *loaders, BinaryLoss(smoothing=settings["smoothing"]), weights)
