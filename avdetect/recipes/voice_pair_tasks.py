"""The task of a voice encoder that learns from fakes made on the fly: `train.audio.pseudo` is set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from avdetect.data import PreparedSet
from avdetect.data.loaders import collate
from avdetect.data.pseudo.vocoders import load_generators
from avdetect.data.voice_pairs import VoicePairDataset, VoicePairSettings
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.training import BinaryLoss, Task
from avdetect.training.sampling import ShuffledBatches
from avdetect.training.voice_pair_task import VoicePairTask
from avdetect.transforms import AudioAugment

PAIR_KEYS = ("labelled", "dirt_p", "reverb_p", "reuse")
VOICE_PSEUDO_KEYS = {*PAIR_KEYS, "rank", "generators"}


def voice_pair_task(encoder: Encoder, prepared: PreparedSet, settings: dict[str, Any], seed: int) -> Task:
    """Pairs of genuine speech and its fakes; `settings` of train.audio, with its own figures in `pseudo`.

    pseudo: fields of data.voice_pairs.VoicePairSettings, `rank` (training.voice_pair_task) and `generators`, the
    folder of trained ones or None. `augment` is the channel of both sides. `batch` counts windows, two a pair; the
    best epoch is chosen by the labelled fakes of the val split and by copies of its genuine speech.
    """
    pseudo = settings["pseudo"]
    if unknown := sorted(set(pseudo) - VOICE_PSEUDO_KEYS):
        known = ", ".join(sorted(VOICE_PSEUDO_KEYS))
        raise ConfigError(f"train.audio.pseudo has no setting {', '.join(unknown)}; it knows {known}")
    for name in ("adversarial", "sampling"):
        if settings.get(name):
            raise ConfigError(
                f"train.audio.{name} is set, but training from pseudo-fakes (train.audio.pseudo) does not use it: "
                "set it to null"
            )
    window_s = settings["window_s"]
    if window_s is not None and settings["fit"]["epochs"] > 0:
        encoder.preprocess = replace(encoder.preprocess, window_s=window_s, hop_s=window_s / 2)
    pairs = VoicePairSettings.from_dict({name: pseudo[name] for name in PAIR_KEYS if name in pseudo})
    folder = pseudo.get("generators")
    generators = None if folder is None else load_generators(folder)
    channel = replace(
        AudioAugment.from_dict(settings["augment"]), crop_s=None, sample_rate=encoder.preprocess.sample_rate
    )
    shared = (encoder.preprocess, pairs, channel)
    rows = [prepared.rows("audio", split) for split in ("train", "val")]
    train = VoicePairDataset(prepared, rows[0], *shared, training=True, seed=seed, generators=generators)
    val = VoicePairDataset(prepared, rows[1], *shared, seed=seed, generators=generators)
    count, workers = max(1, settings["batch"] // 2), settings["loader_workers"]
    sampler = ShuffledBatches(len(train), count, seed, settings["batches_per_epoch"], train.windows_held())
    keep = {"collate_fn": collate, "num_workers": workers, "persistent_workers": workers > 0}
    loaders = DataLoader(train, batch_sampler=sampler, **keep), DataLoader(val, batch_size=count, **keep)
    loss = BinaryLoss.from_dict({"smoothing": settings["smoothing"], **(settings.get("loss") or {})})
    return VoicePairTask(encoder, *loaders, loss, float(pseudo.get("rank", 0.5)))
