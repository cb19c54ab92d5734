import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.data.face_pairs import CHANNELLED, GENUINE, LABELLED, PSEUDO, FacePairDataset, PairSettings
from avdetect.data.loaders import collate
from avdetect.data.manifest import Manifest
from avdetect.data.prepare import RECORD, SCHEMA, PreparedSet, _digest
from avdetect.errors import ConfigError, DataError
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo, save_clip
from avdetect.transforms import VisualPreprocess
from avdetect.transforms.face_channel import FaceChannel

SIDE = 48
SETTINGS = ClipSettings(crop_size=SIDE, mouth_size=6)
PLAIN = VisualPreprocess(size=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
STILL = FaceChannel(
    flip_p=0, zoom=(1, 1), aspect=0, rotation=0, shift=0, downscale_p=0, blur_p=0, sharpen_p=0, colour_p=0, tone_p=0,
    noise_p=0, jpeg_p=0, erase_p=0,
)  # fmt: skip


def face(seed):
    """A smooth picture that differs from seed to seed."""
    coarse = np.random.default_rng(seed).integers(40, 215, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def swapped(picture):
    """The same with another middle."""
    fake = picture.copy()
    fake[14:34, 14:34] = 255 - fake[14:34, 14:34]
    return fake


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Four genuine clips of two crops (two people), the fakes of the first two, and one fake without an original."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "clips").mkdir()
    told = {"schema": SCHEMA, "sha256": _digest(SETTINGS.to_dict()), "clip_settings": SETTINGS.to_dict()}
    (folder / "settings.json").write_text(json.dumps(told))
    rows, records = [], []

    def add(crops, label, source, method=None, subject=None):
        number, times = len(rows), np.arange(len(crops)) * 0.25
        one = FaceTrack(0, times, np.zeros((len(crops), 4), np.float32), np.ones(len(crops), np.float32), times,
                        np.stack(crops), 0, np.zeros((0, 6, 6), np.uint8))  # fmt: skip
        info = MediaInfo(**{name: None for name in MediaInfo.__dataclass_fields__})
        save_clip(Clip("x", "video", 1.0, info, SETTINGS, [one], None), folder / "clips" / f"{number}.npz")
        rows.append({"path": f"{number}.mp4", "label": label, "source": source, "method": method, "subject": subject,
                     "split": "train"})  # fmt: skip
        records.append(dict.fromkeys(RECORD) | {
            "key": f"D/{number}.mp4", "path": f"{number}.mp4", "root": "/", "status": "ok",
            "file": f"clips/{number}.npz", "tracks": 1, "crops": len(crops), "mouths": 0, "has_audio": False,
            "duration_s": 1.0, "size_bytes": 1, "mtime_ns": 1,
        })  # fmt: skip

    for number in range(4):
        crops = [face(10 * number), face(10 * number + 1)]
        add(crops, 0, f"s{number}", subject="anna" if number < 2 else "bert")
        if number < 2:
            add([swapped(crop) for crop in crops], 1, f"s{number}", "swap")
    add([face(90)], 1, "elsewhere", "other")
    pd.DataFrame(records, columns=list(RECORD)).to_csv(folder / "prepared.csv", index=False)
    return PreparedSet.open(folder, Manifest(pd.DataFrame(rows), name="D"))


def pairs(prepared, labelled=1.0, part=0.0, cache_mb=0, channel=STILL, training=True, rows=None, **options):
    rows = prepared.rows("visual", "train") if rows is None else rows
    settings = PairSettings(labelled=labelled, part=part, cache_mb=cache_mb)
    return FacePairDataset(prepared, rows, PLAIN, settings, channel, training=training, **options)


def test_a_genuine_crop_stands_beside_its_own_labelled_fake(prepared):
    data = pairs(prepared)
    assert len(data) == 4 and data.methods == ["other", "swap", "pseudo"]
    for index in (0, 1):
        item = data[index]
        crops = (item["x"].permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
        assert any(np.array_equal(crops[0], face(10 * index + k)) for k in (0, 1))
        assert np.array_equal(crops[1], swapped(crops[0]))  # of the same moment
        assert item["label"].tolist() == [0, 1] and item["method"].tolist() == [0, 2]
        assert item["known"].tolist() == [True, True]
        assert item["change"].shape == (2, 6, 6) and item["change"][0].max() == 0
        assert item["change"][1, 2:4, 2:4].min() > 0.9 and item["change"][1, 0].max() < 0.1
    rows = prepared.rows("visual", "train")
    alone = pairs(prepared, rows=rows[rows["method"].fillna("") != "other"])
    assert alone[2]["method"].tolist() == [0, 2]  # without a labelled fake: a pseudo-fake


def test_a_fake_without_an_original_stands_beside_genuine_clips_that_have_no_fake(prepared):
    data = pairs(prepared)
    for index in (2, 3):
        item = data[index]
        crops = (item["x"].permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
        assert any(np.array_equal(crops[0], face(10 * index + k)) for k in (0, 1))
        assert np.array_equal(crops[1], face(90))
        assert item["label"].tolist() == [0, 1] and item["method"].tolist() == [0, 1]
        assert item["known"].tolist() == [True, False] and item["change"].max() == 0
    rows = prepared.rows("visual", "train").copy()
    rows.loc[rows["method"].fillna("") == "other", "dataset"] = "E"
    assert pairs(prepared, rows=rows)[2]["method"].tolist() == [0, 3]  # that of another dataset does not


def test_pseudo_fakes_where_they_are_wanted(prepared):
    data = pairs(prepared, labelled=0.0)
    for index in range(4):
        item = data[index]
        assert item["method"].tolist() == [0, 3] and item["known"].all()
        assert not torch.equal(item["x"][0], item["x"][1]) and item["change"][1].max() > 0
    mixed = pairs(prepared, labelled=0.5)
    methods = set()
    for epoch in range(12):
        mixed.set_epoch(epoch)
        methods.add(int(mixed[0]["method"][1]))
    assert methods == {2, 3}


def test_a_part_of_a_manipulation_is_a_manipulation_there_alone(prepared):
    data = pairs(prepared, part=1.0)
    shares = []
    for epoch in range(6):
        data.set_epoch(epoch)
        item = data[0]
        differs = (item["x"][0] != item["x"][1]).any(0)
        whole = swapped(face(0)) != face(0)
        assert differs.sum() < whole.any(-1).sum()
        cells = differs[:48, :48].reshape(6, 8, 6, 8).float().mean((1, 3))
        assert (item["change"][1][cells == 0]).mean() < 0.25
        shares.append(float(differs.float().mean()))
    assert len(set(shares)) > 1


def test_differently_cut_fakes_have_no_known_place(prepared, monkeypatch):
    data = pairs(prepared)
    read = data._crop_at
    # every fake of this set shifted by some pixels
    monkeypatch.setattr(
        data, "_crop_at", lambda row, moment: np.roll(read(row, moment), 9 * int(row["truth"]), axis=1)
    )
    item = data[0]
    assert item["known"].tolist() == [True, False] and item["change"].max() == 0


def test_both_sides_go_through_the_same_channel(prepared):
    data = pairs(prepared, channel=FaceChannel(erase_p=0, downscale_p=0, blur_p=0, sharpen_p=0, jpeg_p=0))
    for epoch in range(5):
        data.set_epoch(epoch)
        item = data[0]
        same = (item["x"][0] == item["x"][1]).all(0)
        assert same.float().mean() > 0.4  # around the manipulation nothing differs
        assert not torch.equal(item["x"][0], pairs(prepared)[0]["x"][0])


def test_draws_follow_from_seed_epoch_and_index_with_or_without_a_cache(prepared):
    plain, cached = pairs(prepared, 0.5, 0.5), pairs(prepared, 0.5, 0.5, cache_mb=1)
    for epoch in (0, 1, 0):
        for data in (plain, cached):
            data.set_epoch(epoch)
        for index in range(8):  # beyond the length: drawn again
            assert torch.equal(plain[index]["x"], cached[index]["x"])
    assert cached._kept and not plain._kept
    plain.set_epoch(0)
    first = plain[0]["x"]
    plain.set_epoch(1)
    assert not torch.equal(first, plain[0]["x"])


def test_partners_are_other_people(prepared):
    data = pairs(prepared)
    rng = np.random.default_rng(0)
    for _ in range(10):
        partner = data._partner(face(0), 0, rng)  # anna's
        assert any(np.array_equal(partner, face(10 * number)) for number in (2, 3))
    assert data._owner(0) == "anna"
    alone = pairs(prepared, labelled=0.0, rows=prepared.rows("visual", "train").iloc[[0, 1, 2]])
    for epoch in range(10):  # nobody else: no blends of two people, and no error
        alone.set_epoch(epoch)
        assert alone[0]["x"].shape == (2, 3, SIDE, SIDE)


def test_examination_never_changes_and_tells_what_is_what(prepared):
    data = pairs(prepared, training=False, crops=2, channel=FaceChannel())
    items = [data[index] for index in range(len(data))]
    data.set_epoch(5)
    for before, after in zip(items, (data[index] for index in range(len(data))), strict=True):
        assert torch.equal(before["x"], after["x"])
    expected = [GENUINE] * 2 + [LABELLED] * 2 + [CHANNELLED, PSEUDO] * 2
    assert items[0]["origin"].tolist() == expected
    assert items[0]["label"].tolist() == [0, 0, 1, 1, 0, 1, 0, 1]
    assert items[0]["method"].tolist() == [0, 0, 2, 2, 0, 3, 0, 3]
    assert items[2]["origin"].tolist() == [GENUINE] * 2 + [CHANNELLED, PSEUDO] * 2
    assert np.array_equal((items[0]["x"][0].permute(1, 2, 0).numpy() * 255).round(), face(0))
    joined = collate(items)
    assert len(joined["x"]) == len(joined["origin"]) == 2 * 8 + 2 * 6


def test_without_genuine_clips_there_is_nothing_to_learn_from(prepared):
    rows = prepared.rows("visual", "train")
    with pytest.raises(DataError, match="no clip of .* is genuine and shows a face"):
        pairs(prepared, rows=rows[rows["truth"] == 1])


@pytest.mark.parametrize("settings", [{"labelled": 1.5}, {"part": -0.1}, {"cache_mb": -1}])
def test_settings_are_checked(settings):
    with pytest.raises(ConfigError, match=f"train.visual.pseudo.{next(iter(settings))} is "):
        PairSettings(**settings)
