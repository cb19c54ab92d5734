import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from avdetect.data.loaders import (
    ClipDataset,
    FaceCropDataset,
    LipSyncDataset,
    VoiceDataset,
    collate,
    cut,
    spread,
)
from avdetect.data.manifest import Manifest
from avdetect.data.prepare import RECORD, SCHEMA, PreparedSet, _digest
from avdetect.errors import ConfigError, DataError
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo, save_clip
from avdetect.transforms import (
    AudioPreprocess,
    LipSyncPreprocess,
    PairPreprocess,
    VisualAugment,
    VisualPreprocess,
)

SETTINGS = ClipSettings(crop_size=8, mouth_size=6)
RATE, FRAME = 16000, 640
VISUAL = VisualPreprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1))
VOICE = AudioPreprocess(window_s=0.5, hop_s=0.25)
LIPS = LipSyncPreprocess(mouth_size=6)


def track(number, crops, mouths, mouth_start=0):
    """Crop k is filled with 10 * number + k, mouth i with its grid index."""
    images = np.stack([np.full((8, 8, 3), 10 * number + k, np.uint8) for k in range(crops)]) if crops else (
        np.zeros((0, 8, 8, 3), np.uint8))  # fmt: skip
    grid = np.arange(mouth_start, mouth_start + mouths, dtype=np.uint8)
    times = np.arange(max(crops, 1)) * 0.25
    return FaceTrack(number, times, np.zeros((len(times), 4), np.float32), np.ones(len(times), np.float32),
                     times[:crops], images, mouth_start, np.repeat(grid, 36).reshape(-1, 6, 6))  # fmt: skip


def grid_audio(frames):
    """Each sample tells the grid frame in which it lies, from 1."""
    return np.repeat(np.arange(1, frames + 1, dtype=np.float32), FRAME)


def clip(tracks=(), audio=None):
    info = MediaInfo(**{name: None for name in MediaInfo.__dataclass_fields__})
    return Clip("x", "video", 1.0, info, SETTINGS, list(tracks), audio)


@pytest.fixture
def make(tmp_path):
    """A prepared set of the given clips, with labels 0, 1, 0, …"""

    def build(*clips):
        (tmp_path / "clips").mkdir()
        content = {
            "schema": SCHEMA,
            "sha256": _digest(SETTINGS.to_dict()),
            "clip_settings": SETTINGS.to_dict(),
        }
        (tmp_path / "settings.json").write_text(json.dumps(content))
        records = []
        for i, one in enumerate(clips):
            save_clip(one, tmp_path / "clips" / f"{i}.npz")
            records.append(dict.fromkeys(RECORD) | {
                "key": f"D/{i}.mp4", "path": f"{i}.mp4", "root": "/", "status": "ok",
                "file": f"clips/{i}.npz",
                "tracks": len(one.tracks), "crops": sum(len(t.crops) for t in one.tracks),
                "mouths": max((len(t.mouths) for t in one.tracks), default=0),
                "has_audio": one.audio is not None,
                "duration_s": 1.0, "size_bytes": 1, "mtime_ns": 1,
            })  # fmt: skip
        pd.DataFrame(records, columns=list(RECORD)).to_csv(tmp_path / "prepared.csv", index=False)
        table = pd.DataFrame(
            {"path": [r["path"] for r in records], "label": [i % 2 for i in range(len(clips))]}
        )
        return PreparedSet.open(tmp_path, Manifest(table, name="D"))

    return build


def values(item):
    """The filling of every crop of an item."""
    return [round(float(crop[0, 0, 0]) * 255) for crop in item["x"]]


def test_spread_and_cut():
    assert (
        spread(10, 4).tolist() == [0, 3, 6, 9]
        and spread(3, 5).tolist() == [0, 1, 2]
        and spread(9, 1).tolist() == [4]
    )
    sound = np.arange(1, 6, dtype=np.float32)
    assert cut(-2, 4, sound).tolist() == [0, 0, 1, 2] and cut(3, 4, sound).tolist() == [4, 5, 0, 0]
    assert cut(9, 2, sound).tolist() == [0, 0] and cut(-9, 2, sound).tolist() == [0, 0]


def test_evaluation_crops_span_the_whole_track(make):
    prepared = make(clip([track(0, 9, 0), track(1, 5, 0)]), clip([track(0, 0, 0), track(1, 2, 0)]))
    rows = prepared.rows("visual")
    data = FaceCropDataset(prepared, rows, VISUAL, crops=3)
    assert values(data[0]) == [0, 4, 8] and data[0]["label"].tolist() == [0, 0, 0]
    assert values(data[1]) == [10, 11] and data[1]["label"].tolist() == [1, 1]
    everyone = FaceCropDataset(prepared, rows, VISUAL, crops=3, track="any")
    assert values(everyone[0]) == [0, 4, 8, 10, 12, 14]
    batch = collate([data[0], data[1]])
    assert batch["x"].shape == (5, 3, 8, 8) and batch["clip"].tolist() == [0, 0, 0, 1, 1]
    assert data.labels.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="unknown choice of track 'all'"):
        FaceCropDataset(prepared, rows, VISUAL, track="all")


def test_training_crops_follow_seed_epoch_and_index(make):
    prepared = make(*[clip([track(0, 10, 0)]) for _ in range(6)], clip([track(0, 2, 0)]))
    rows = prepared.rows("visual")
    data = FaceCropDataset(prepared, rows, VISUAL, crops=4, training=True, seed=5)
    first = [values(data[i]) for i in range(6)]
    assert first == [values(data[i]) for i in range(6)]
    assert all(len(set(one)) == 4 for one in first) and len({tuple(one) for one in first}) > 1
    assert len(values(data[6])) == 4 and set(values(data[6])) <= {0, 1}
    data.set_epoch(1)
    second = [values(data[i]) for i in range(6)]
    assert second != first
    other = FaceCropDataset(prepared, rows, VISUAL, crops=4, training=True, seed=6)
    assert [values(other[i]) for i in range(6)] != first


def test_any_track_is_drawn_as_often_as_it_has_crops(make):
    prepared = make(clip([track(0, 2, 0), track(1, 8, 0)]))
    data = FaceCropDataset(prepared, prepared.rows("visual"), VISUAL, crops=1, training=True, track="any")
    seen = []
    for epoch in range(60):
        data.set_epoch(epoch)
        seen += values(data[0])
    assert 35 <= sum(value >= 10 for value in seen) <= 58


def test_same_batches_with_any_number_of_processes(make):
    prepared = make(*[clip([track(0, 10, 40)], grid_audio(40)) for _ in range(6)])
    sets = (
        FaceCropDataset(prepared, prepared.rows("visual"), VISUAL, crops=3, training=True, augment=jitter),
        VoiceDataset(prepared, prepared.rows("audio"), VOICE, training=True),
        LipSyncDataset(prepared, prepared.rows("lipsync"), LIPS, frames=10, context=3, training=True),
    )
    for data in sets:
        runs = []
        for workers in (0, 2):
            loader = DataLoader(
                data, 3, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
            )
            batches = []
            for epoch in range(2):
                data.set_epoch(epoch)
                batches += list(loader)
            runs.append(batches)
        for one, two in zip(*runs, strict=True):
            assert all(torch.equal(one[name], two[name]) for name in one)
        first, later = runs[0][0], runs[0][len(runs[0]) // 2]  # the same clips in the next epoch
        assert torch.equal(first["clip"], later["clip"])
        assert any(not torch.equal(first[name], later[name]) for name in first)


def jitter(crops, rng):
    return np.clip(crops + rng.integers(0, 100), 0, 255).astype(np.uint8)


def test_augmentation_is_for_training_only(make):
    prepared = make(clip([track(0, 4, 20)], grid_audio(20)))

    def white(crops, rng):
        return np.full_like(crops, 255)

    rows = prepared.rows("visual")
    assert values(FaceCropDataset(prepared, rows, VISUAL, crops=2, training=True, augment=white)[0]) == [
        255,
        255,
    ]
    assert values(FaceCropDataset(prepared, rows, VISUAL, crops=2, augment=white)[0]) == [0, 3]


PAIRS = PairPreprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1))


def pair_values(item):
    """(filling of the crop, filling of its predecessor) of every sample."""
    return [tuple(round(float(crop[0, 0, 0]) * 255) for crop in pair) for pair in item["x"]]


def test_pairs_bring_the_predecessor_in_the_track(make):
    prepared = make(clip([track(0, 9, 0), track(1, 1, 0), track(2, 2, 0)]))
    rows = prepared.rows("visual")
    data = FaceCropDataset(prepared, rows, PAIRS, crops=3)
    assert data[0]["x"].shape == (3, 2, 3, 8, 8) and data[0]["label"].shape == (3,)
    assert pair_values(data[0]) == [(0, 1), (4, 3), (8, 7)]
    everyone = FaceCropDataset(prepared, rows, PAIRS, crops=2, track="any")
    assert pair_values(everyone[0]) == [(0, 1), (8, 7), (10, 10), (20, 21), (21, 20)]
    training = FaceCropDataset(prepared, rows, PAIRS, crops=4, training=True)
    for i in range(5):
        assert all(before == max(crop - 1, int(crop == 0)) for crop, before in pair_values(training[i]))


def test_crop_and_predecessor_are_augmented_alike(make):
    prepared = make(clip([track(0, 9, 0)]))
    rows = prepared.rows("visual")
    plain = FaceCropDataset(prepared, rows, PAIRS, crops=4, training=True)
    data = FaceCropDataset(prepared, rows, PAIRS, crops=4, training=True, augment=jitter)
    shifts = set()
    for i in range(6):
        moved = np.array(pair_values(data[i])) - np.array(pair_values(plain[i]))
        assert len(set(moved.ravel())) == 1  # `jitter` draws once a stack
        shifts.add(int(moved[0, 0]))
    assert len(shifts) > 3
    noise = VisualAugment(flip_p=0, affine_p=0, colour_p=0, downscale_p=0, blur_p=0, noise_p=1, jpeg_p=0)
    same = make_single(prepared)
    noisy = FaceCropDataset(same, same.rows("visual"), PAIRS, crops=4, training=True, augment=noise)[0]["x"]
    assert torch.equal(noisy[:, 0], noisy[:, 1]) and not torch.equal(noisy[0], noisy[1])


def make_single(prepared):
    """The set with one crop in its clip: crop and predecessor are the same picture."""
    save_clip(clip([track(5, 1, 0)]), prepared.folder / "clips" / "0.npz")
    return prepared


def test_methods_are_counted_among_the_fakes(make):
    prepared = make(*[clip([track(0, 2, 0)]) for _ in range(6)])  # 1, 3 and 5 are fake
    rows = prepared.rows("visual").assign(method=["swap", "swap", "camera", "reenact", None, None])
    data = FaceCropDataset(prepared, rows, VISUAL)
    assert data.methods == ["reenact", "swap", "unknown"]
    assert [data[i]["method"].tolist() for i in range(6)] == [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0], [3, 3]]
    assert data[1]["method"].dtype == torch.int64
    genuine = FaceCropDataset(prepared, rows[rows["truth"] == 0], VISUAL)
    assert genuine.methods == [] and genuine[2]["method"].tolist() == [0, 0]


def test_voice_windows(make):
    prepared = make(clip(audio=np.arange(RATE * 2, dtype=np.float32)), clip(audio=np.ones(100, np.float32)))
    rows = prepared.rows("audio")
    still = VoiceDataset(prepared, rows, VOICE, windows=3)
    assert still[0]["x"].shape == (3, 8000) and still[0]["x"][:, 0].tolist() == [0, 12000, 24000]
    assert still[1]["x"].shape == (1, 8000) and still[1]["label"].tolist() == [1]
    data = VoiceDataset(prepared, rows, VOICE, training=True)
    starts = []
    for epoch in range(20):
        data.set_epoch(epoch)
        window = data[0]["x"]
        assert window.shape == (1, 8000) and torch.equal(window[0, 1:] - window[0, :-1], torch.ones(7999))
        starts.append(float(window[0, 0]))
    assert len(set(starts)) > 15 and min(starts) < 8000 and max(starts) > 16000
    doubled = VoiceDataset(prepared, rows, VOICE, training=True, augment=lambda sound, rng: np.tile(sound, 2))
    with pytest.raises(ConfigError, match="returned 16000 samples, more than one window"):
        doubled[0]


def test_lip_sync_sound_lies_around_the_mouths(make):
    sound = grid_audio(60)
    prepared = make(clip([track(0, 1, 5), track(1, 1, 40, mouth_start=10)], sound))
    rows = prepared.rows("lipsync", min_mouths=12)
    still = LipSyncDataset(prepared, rows, LIPS, frames=12, context=4, spans=2)
    item = still[0]
    assert item["mouths"].shape == (2, 12, 6, 6) and item["waveform"].shape == (2, 20 * FRAME)
    for mouths, waveform in zip(item["mouths"], item["waveform"], strict=True):
        grid = (mouths[:, 0, 0] * 255).round()  # grid index of every mouth
        assert torch.equal(waveform[4 * FRAME : 16 * FRAME : FRAME], grid + 1)
        assert torch.equal(waveform[::FRAME], torch.arange(20) + grid[0] + 1 - 4)
    assert item["mouths"][:, 0, 0, 0].mul(255).round().tolist() == [10, 34]
    whole, reference = LIPS(np.zeros((12, 6, 6), np.uint8), 10, sound)
    assert torch.equal(item["waveform"][0, 4 * FRAME : 16 * FRAME], reference[0]) and whole.shape == (
        1,
        12,
        6,
        6,
    )


def test_lip_sync_training_keeps_its_context_inside_the_sound_where_it_can(make):
    prepared = make(clip([track(0, 1, 40)], grid_audio(30)), clip([track(0, 1, 20)], grid_audio(20)))
    rows = prepared.rows("lipsync", min_mouths=12)
    rows = pd.concat(
        [rows, prepared.table[1:].assign(truth=1)], ignore_index=True
    )  # a fake: not for this stage
    data = LipSyncDataset(prepared, rows, LIPS, frames=12, context=5, training=True)
    firsts = set()
    for epoch in range(30):
        data.set_epoch(epoch)
        item = data[0]
        assert (item["waveform"] > 0).all()
        firsts.add(int((item["mouths"][0, 0, 0, 0] * 255).round()))
        assert data[1]["waveform"].shape == (1, 22 * FRAME) and (data[1]["waveform"] == 0).any()
    assert min(firsts) == 5 and max(firsts) == 13


def test_lip_sync_augmentation_gets_mouths_and_sound(make):
    prepared = make(clip([track(0, 1, 12)], grid_audio(12)))

    def augment(mouths, sound, rng):
        assert mouths.shape == (12, 6, 6) and mouths.dtype == np.uint8 and sound.shape == (14 * FRAME,)
        return np.full_like(mouths, 255), -sound

    rows = prepared.rows("lipsync")
    item = LipSyncDataset(prepared, rows, LIPS, frames=12, context=1, training=True, augment=augment)[0]
    assert (item["mouths"] == 1).all() and (item["waveform"] <= 0).all() and item["waveform"].min() == -12


def test_whole_clips(make):
    prepared = make(clip([track(0, 3, 4)], grid_audio(4)), clip(audio=grid_audio(4)))
    data = ClipDataset(prepared, prepared.rows("clip"))
    row, loaded = data[1]
    assert (
        row["key"] == "D/1.mp4"
        and row["truth"] == 1
        and loaded.tracks == []
        and len(loaded.audio) == 4 * FRAME
    )
    batches = list(DataLoader(data, 2, collate_fn=list))
    assert [item[0]["key"] for item in batches[0]] == ["D/0.mp4", "D/1.mp4"]


def test_unreadable_samples_raise_and_are_named(make):
    prepared = make(*[clip([track(0, 3, 4)], grid_audio(4)) for _ in range(3)])
    rows = prepared.rows("visual")
    data = FaceCropDataset(prepared, rows, VISUAL)
    (prepared.folder / "clips" / "1.npz").write_bytes(b"damaged")
    (prepared.folder / "clips" / "2.npz").unlink()
    for broken in (data, ClipDataset(prepared, rows)):
        with pytest.raises(DataError, match="^D/1.mp4: .*prepare"):
            broken[1]
        with pytest.raises(DataError, match="^D/2.mp4: .*missing"):
            broken[2]
        assert broken[0]
    with pytest.raises(DataError, match="D/0.mp4: .*no face with 50 mouth crops in a row"):
        LipSyncDataset(prepared, rows, LIPS, frames=50)[0]
    faceless = FaceCropDataset(prepared, rows, VISUAL)
    save_clip(clip(audio=grid_audio(1)), prepared.folder / "clips" / "0.npz")
    with pytest.raises(DataError, match="D/0.mp4: .*it has no face crop"):
        faceless[0]
    save_clip(clip([track(0, 1, 1)]), prepared.folder / "clips" / "0.npz")
    with pytest.raises(DataError, match="D/0.mp4: .*it has no sound"):
        VoiceDataset(prepared, rows, VOICE)[0]
    with pytest.raises(DataError, match="no clip of .* is fit for FaceCropDataset"):
        FaceCropDataset(prepared, rows.iloc[:0], VISUAL)
