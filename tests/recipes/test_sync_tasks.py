"""Settings of lip-sync training from pseudo-fakes: what they make, and which are refused."""

import copy

import numpy as np
import pandas as pd
import pytest

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.media import Clip, ClipFile, ClipSettings, FaceTrack, MediaInfo, save_clip
from avdetect.recipes.tasks import encoder_task
from avdetect.training.lipsync import SyncEvidenceTask

SETTINGS = {
    "batch": 2,
    "frames": 20,
    "batches_per_epoch": None,
    "loader_workers": 0,
    "augment": None,
    "pseudo": {"spare": 4, "fake_p": 1.0, "channel": {"flip_p": 0.0}},
    "fit": {},
}


class Prepared:
    """Four genuine clips of a second and a fake one, half of them for validation, in a folder."""

    def __init__(self, folder, mouths=26):
        self.folder, rng, info = folder, np.random.default_rng(0), MediaInfo("mp4", 1, "0")
        names = [f"{n}.mp4" for n in range(5)]
        self.table = pd.DataFrame({
            "key": names, "subject": ["a", "b", "c", "d", "a"], "method": None, "mouths": mouths,
            "split": ["train", "train", "val", "val", "train"], "truth": [0, 0, 0, 0, 1],
        })  # fmt: skip
        times = np.zeros(1)
        for name in names:
            crops = np.zeros((1, 224, 224, 3), np.uint8)
            pictures = rng.integers(0, 256, (mouths, 48, 48), dtype=np.uint8)
            ones = np.ones(1, np.float32)
            track = FaceTrack(0, times, np.zeros((1, 4), np.float32), ones, times, crops, 0, pictures)
            sound = rng.normal(0, 0.1, mouths * 640).astype(np.float32)
            save_clip(
                Clip("x", "video", 1.0, info, ClipSettings(), [track], sound), self.clip_path({"key": name})
            )

    def rows(self, stage, split, min_mouths=1):
        assert stage == "lipsync"
        kept = self.table["split"].eq(split) & self.table["mouths"].ge(min_mouths)
        return self.table[kept].reset_index(drop=True)

    def clip_path(self, row):
        return self.folder / f"{row['key']}.npz"

    def clip_file(self, row):
        return ClipFile(self.clip_path(row))


@pytest.fixture
def encoder():
    return create_encoder("lipsync_small", channels=(4, 4, 4, 4), dim=8)


def test_spans_of_genuine_clips_with_and_without_their_fakes(tmp_path, encoder):
    task = encoder_task("lipsync", encoder, Prepared(tmp_path), SETTINGS, 0)
    assert isinstance(task, SyncEvidenceTask)
    task.set_epoch(0)
    (batch,) = task.train_loader  # the fake clip is left out
    assert batch["mouths"].shape == (4, 20, 48, 48) and batch["fake"].sum() == 2
    losses = task.step(task.model, batch)
    assert all(np.isfinite(value.item()) for value in losses.values())
    (val,) = task.val_loader
    assert val["mouths"].shape == (4, 24, 48, 48)
    assert set(task.predict(task.model.eval(), val)) == {"logit", "label", "miss", "surprise", "clip"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pseudo": {"spares": 4}}, "train.lipsync.pseudo has no setting spares; it knows channel, fake_p, spare"),
        ({"frames": 9}, "train.lipsync.frames is 9: lipsync_small compares spans of 10 grid frames or more"),
        ({"augment": {"flip_p": 0.5}}, "train.lipsync.augment is set"),
        ({"pseudo": {**SETTINGS["pseudo"], "channel": {"noise": 1}}}, "TalkingAugment has no setting noise"),
    ],
)  # fmt: skip
def test_settings_that_would_have_no_effect_are_refused(tmp_path, encoder, change, message):
    with pytest.raises(ConfigError, match=message):
        encoder_task("lipsync", encoder, Prepared(tmp_path), copy.deepcopy(SETTINGS) | change, 0)


def test_an_encoder_of_distances_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs an encoder that sums evidence, not lipsync_tiny"):
        encoder_task("lipsync", create_encoder("lipsync_tiny"), Prepared(tmp_path), SETTINGS, 0)


def test_a_split_without_a_long_enough_face_is_said(tmp_path, encoder):
    with pytest.raises(DataError, match="the train split has no genuine talking face of 1.0 s"):
        encoder_task("lipsync", encoder, Prepared(tmp_path, mouths=23), SETTINGS, 0)
