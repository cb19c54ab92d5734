"""Spans for lip-sync training: what their `shift` says is where the sound is, at every pace and frame rate."""

import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.data import sync_pairs
from avdetect.data.loaders import collate
from avdetect.data.sync_pairs import SyncSpans
from avdetect.errors import DataError
from avdetect.media import Clip, ClipFile, ClipSettings, FaceTrack, MediaInfo, save_clip
from avdetect.transforms import LipSyncPreprocess

LIPS = LipSyncPreprocess(mouth_size=48)
FRAME = 640


def clip(frames, start=2):
    """Mouth i is filled with 4 i, and the sound beside it rises so that its value tells the grid frame."""
    mouths = np.repeat(np.arange(frames, dtype=np.uint8) * 4, 48 * 48).reshape(-1, 48, 48)
    times = np.arange(4) * 0.25
    short = np.zeros((5, 48, 48), np.uint8)
    tracks = [
        FaceTrack(n, times, np.zeros((4, 4), np.float32), np.ones(4, np.float32), times,
                  np.zeros((4, 224, 224, 3), np.uint8), start, m)
        for n, m in enumerate((short, mouths))
    ]  # fmt: skip
    sound = ((np.arange((frames + start) * FRAME) / FRAME - start) / 64).astype(np.float32)
    info = MediaInfo(**{name: None for name in MediaInfo.__dataclass_fields__})
    return Clip("x", "video", frames / 25, info, ClipSettings(), tracks, sound)


class Prepared:
    """A prepared folder of given clips."""

    def __init__(self, folder, clips):
        self.folder = folder
        self.table = pd.DataFrame({
            "key": [f"{n}.mp4" for n in range(len(clips))], "truth": 0, "method": None,
            "subject": ["anna", "anna", "bert"][: len(clips)],
        })  # fmt: skip
        for name, one in zip(self.table["key"], clips, strict=True):
            save_clip(one, folder / f"{name}.npz")

    def clip_path(self, row):
        return self.folder / f"{row['key']}.npz"

    def clip_file(self, row):
        return ClipFile(self.clip_path(row))


@pytest.fixture
def prepared(tmp_path):
    return Prepared(tmp_path, [clip(n) for n in (40, 44, 41)])


def shown(span):
    """Grid frame of each mouth, and of the middle of each frame of sound."""
    at = span["mouths"].mean(dim=(2, 3)) * 255 / 4
    sound = span["waveform"].unflatten(1, (-1, FRAME)).mean(dim=2) * 64
    return at[0].numpy(), sound[0].numpy() - 0.5


def test_sound_lies_where_the_shift_says(prepared):
    """Half of the spans have another pace or frame rate: a video of 15 Hz shows frames that are up to 1.7 old."""
    spans = SyncSpans(prepared, prepared.table, LIPS, 24, True, seed=3, fake_p=0.0)
    shifts, paces = set(), []
    for epoch in range(40):
        spans.set_epoch(epoch)
        for index in range(3):
            span = spans[index]
            assert span["mouths"].shape == (1, 24, 48, 48) and span["waveform"].shape == (1, 24 * FRAME)
            lips, heard = shown(span)
            shift = int(span["shift"])
            together = slice(max(0, -shift), 24 - max(0, shift))
            late = lips[together] - heard[together.start + shift : together.stop + shift]
            assert abs(late.mean()) < 1.3 and np.abs(late).max() < 2.5
            pace = np.polyfit(np.arange(24), heard, 1)[0]
            if np.ptp(np.diff(lips)) < 1e-3 and abs(pace - 1) < 1e-3:
                np.testing.assert_allclose(late, 0, atol=0.02)  # as recorded
            paces.append(pace)
            shifts.add(shift)
    assert shifts >= set(range(-8, 9))
    assert min(paces) < 0.92 and max(paces) > 1.1 and np.isclose(paces, 1.0, atol=1e-3).mean() > 0.3


def test_a_span_follows_from_seed_epoch_and_index(prepared):
    one, two = (SyncSpans(prepared, prepared.table, LIPS, 24, True, seed=1, fake_p=0.5) for _ in range(2))
    for name, value in one[2].items():
        assert torch.equal(value, two[2][name])
    two.set_epoch(1)
    assert not torch.equal(one[2]["waveform"], two[2]["waveform"])


def test_a_fake_goes_through_the_same_channel_as_its_span(prepared):
    def channel(mouths, sound, rng):
        return np.full_like(mouths, rng.integers(256)), np.full_like(sound, rng.random())

    spans = SyncSpans(prepared, prepared.table, LIPS, 24, True, 0, channel, fake_p=1.0)
    batch = collate([spans[i] for i in range(3)])
    assert batch["fake"].tolist() == [0, 1] * 3 and batch["clip"].tolist() == [0, 0, 1, 1, 2, 2]
    for name in ("mouths", "waveform"):
        assert torch.equal(batch[name][::2], batch[name][1::2])
        assert len(batch[name][:, 0].flatten(1).unique(dim=0)) == 3 if name == "mouths" else True


def test_evaluation_has_each_clip_and_one_fake_of_each_kind_in_turn(prepared, monkeypatch):
    kinds = []
    real = sync_pairs.out_of_sync

    def watched(*given):
        made = real(*given)
        kinds.append(made[2])
        return made

    monkeypatch.setattr(sync_pairs, "out_of_sync", watched)
    spans = SyncSpans(prepared, prepared.table, LIPS, 30)
    batch = collate([spans[i] for i in range(3)])
    assert batch["mouths"].shape == (6, 30, 48, 48) and not batch["shift"].any()
    assert kinds == ["shift", "moment", "stretch"]  # the last has no other clip of its speaker
    for index in range(3):
        lips, heard = shown({name: batch[name][2 * index :][:1] for name in ("mouths", "waveform")})
        np.testing.assert_allclose(lips, np.arange(30), atol=1e-3)
        np.testing.assert_allclose(heard, np.arange(30), atol=0.02)
    again = collate([spans[i] for i in range(3)])
    assert torch.equal(batch["waveform"], again["waveform"])


def test_long_runs_are_cut(prepared):
    spans = SyncSpans(prepared, prepared.table, LIPS, 24, longest=26)
    assert {len(mouths) for mouths, _ in spans._clips} == {26}
    assert {len(sound) for _, sound in spans._clips} == {26 * FRAME}


def test_a_clip_that_is_too_short_is_named(tmp_path):
    prepared = Prepared(tmp_path, [clip(40), clip(20)])
    with pytest.raises(DataError, match="1.mp4.*no face with 24 mouth crops in a row"):
        SyncSpans(prepared, prepared.table, LIPS, 24)
