"""What a detector was made for is measured on its own clips, and a report tells what it does with strange ones."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.data.demo.miniature import Miniature
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.evaluation import Calibration
from avdetect.evidence import collect_evidence, feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, load_bundle, save_bundle
from avdetect.inference.novelty import Mixture, Novelty, View
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo
from avdetect.media.mouths import empty_mouths
from avdetect.recipes import novelty_report
from avdetect.recipes.novelty_stage import (
    COMPONENTS,
    CROP_SIDES,
    NoveltySettings,
    Sample,
    add_novelty,
    fit_view,
    smallest_side,
)

SETTINGS = ClipSettings(crop_size=112, crop_margin=0.1)


# -- limits ---------------------------------------------------------------------------------------------------


def sample(rng, datasets: dict[str, tuple[int, float]]) -> Sample:
    """By dataset (clips, mean of its traits)."""
    rows = [rng.normal(mean, 1, (2, 3)) for count, mean in datasets.values() for _ in range(count)]
    return Sample(rows, np.repeat(list(datasets), [count for count, _ in datasets.values()]))


def test_limits_leave_the_stated_shares_of_validation_clips_above():
    rng = np.random.default_rng(0)
    train, val = sample(rng, {"a": (400, 0)}), sample(rng, {"a": (300, 0)})
    view = fit_view("sound", train, val, NoveltySettings(doubted=0.1, refused=0.02), 0)
    surprise = val.surprise(view.mixture)
    assert (surprise > view.doubted).sum() == 30 and (surprise > view.refused).sum() == 6
    by_row = [view.mixture.surprise(np.stack(val.rows)[:, k]) for k in (0, 1)]
    assert surprise == pytest.approx(np.mean(by_row, axis=0))  # of two rows the median is the mean


def test_a_collection_that_was_not_learnt_from_is_not_refused_for_that():
    rng = np.random.default_rng(1)
    train = sample(rng, {"a": (400, 0), "b": (300, 4)})
    val = sample(rng, {"a": (300, 0), "b": (100, 4)})
    view = fit_view("sound", train, val, NoveltySettings(), 0)
    without = Mixture.fit(train.stacked(train.dataset == "a"), COMPONENTS["sound"], 0)
    left_out = np.quantile(val.surprise(without)[val.dataset == "b"], 0.99)
    assert view.refused == pytest.approx(left_out) and view.refused > np.quantile(
        val.surprise(view.mixture), 0.99
    )


def test_one_varied_collection_does_not_set_the_limit_alone():
    rng = np.random.default_rng(3)
    means = {"a": 0, "b": 3, "c": 40}
    train = sample(rng, {name: (200, mean) for name, mean in means.items()})
    val = sample(rng, {name: (100, mean) for name, mean in means.items()})
    limits = []
    for name in means:
        without = Mixture.fit(train.stacked(train.dataset != name), COMPONENTS["face"], 0)
        limits.append(np.quantile(val.surprise(without)[val.dataset == name], 0.99))
    view = fit_view("face", train, val, NoveltySettings(), 0)
    assert view.refused == pytest.approx(sorted(limits)[1]) and view.refused < max(limits) / 2


def test_a_collection_that_is_most_of_the_data_is_not_left_out():
    rng = np.random.default_rng(2)
    train = sample(rng, {"a": (400, 4), "b": (100, 0)})
    val = sample(rng, {"a": (200, 4)})
    view = fit_view("sound", train, val, NoveltySettings(), 0)
    assert view.refused == pytest.approx(np.quantile(val.surprise(view.mixture), 0.99))


@pytest.mark.parametrize(
    "values", [{"clips": 3}, {"refused": 0.1}, {"refused": 0.0}, {"doubted": 1.0}, {"shares": 0.1}]
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError, match="train.novelty"):
        NoveltySettings.from_dict(values)


def curve(aucs, alarms=None) -> list[dict]:
    alarms = alarms or [0.05] * len(CROP_SIDES)
    points = zip(CROP_SIDES, aucs, alarms, strict=True)
    return [{"crop_side_px": side, "auc": auc, "false_alarms": share} for side, auc, share in points]


@pytest.mark.parametrize(
    ("aucs", "side"),
    [
        ((0.50, 0.52, 0.60, 0.71, 0.80, 0.85, 0.88, 0.90), CROP_SIDES[3]),
        (
            (0.50, 0.75, 0.60, 0.71, 0.80, 0.85, 0.88, 0.90),
            CROP_SIDES[3],
        ),  # a chance rise below does not count
        ((0.75, 0.75, 0.80, 0.80, 0.80, 0.85, 0.88, 0.90), None),  # good on all
        (
            (0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.55),
            None,
        ),  # no better at full size: size is not the cause
    ],
)
def test_the_smallest_face_keeps_half_of_what_the_largest_tells(aucs, side):
    assert smallest_side(curve(aucs), 1.2) == (side and pytest.approx(side / 1.2))


@pytest.mark.parametrize(
    ("alarms", "side"),
    [
        ((0.9, 0.8, 0.5, 0.3, 0.1, 0.06, 0.05, 0.05), CROP_SIDES[4]),
        ((0.9, 0.8, 0.5, 0.3, 0.24, 0.2, 0.15, 0.12), CROP_SIDES[4]),  # never twice as many as at full size
    ],
)
def test_the_smallest_face_is_not_called_fake_for_its_blur(alarms, side):
    assert smallest_side(curve((0.9,) * len(CROP_SIDES), alarms), 1.2) == pytest.approx(side / 1.2)


def test_without_enough_clips_there_is_no_smallest_face():
    assert smallest_side([], 1.2) is None


# -- the whole stage ------------------------------------------------------------------------------------------


def make_clip(number: int) -> Clip:
    """Face of blurred noise, and noise whose loudness changes as that of speech does."""
    rng = np.random.default_rng(number)
    cells = rng.normal(128, 30, (2, 14, 14, 3)).repeat(8, 1).repeat(8, 2)
    crops = np.clip(cells + rng.normal(0, 5, cells.shape), 0, 255).astype(np.uint8)
    times = np.arange(2) * 0.25
    boxes = np.tile(np.float32([0, 0, 90, 100]), (2, 1))
    track = FaceTrack(0, times, boxes, np.ones(2, np.float32), times, crops, 0, empty_mouths(SETTINGS))
    beat = 1 + np.sin(2 * np.pi * rng.uniform(3, 6) * np.arange(24000) / 16000)
    audio = (0.05 * beat * rng.standard_normal(24000)).astype(np.float32)
    return Clip(f"{number}.mp4", "video", 1.5, MediaInfo("mp4", 1, "0"), SETTINGS, [track], audio)


class Store:
    """Two splits of clips that are made as they are asked for."""

    def __init__(self, encoders):
        self.clips, self.judged = {"train": range(40), "val": range(100, 150)}, {}
        self.encoders, self.prepared = encoders, SimpleNamespace(load=lambda row: make_clip(row["number"]))

    def table(self, split):
        return pd.DataFrame({"number": self.clips[split], "dataset": "made"})

    def rows(self, split):
        if split not in self.judged:
            clips = [make_clip(number) for number in self.clips[split]]
            self.judged[split] = [collect_evidence(clip, self.encoders) for clip in clips]
        return self.judged[split]

    def truths(self, split):
        truth = np.arange(len(self.clips[split])) % 2.0
        return {"visual": truth}


@pytest.fixture(scope="module")
def encoders():
    torch.manual_seed(0)
    names = {"visual": "efficientnet_autoatt_tiny", "audio": "mel_cnn_tiny"}
    return {name: create_encoder(encoder).eval() for name, encoder in names.items()}


def bundle_of(encoders) -> Bundle:
    names = ("fused", *encoders)
    return Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), SETTINGS,
        {name: Calibration("platt", 1.0, 0.0) for name in names},
        {name: {"real_below": 0.2, "fake_above": 0.3} for name in names}, {"name": "x", "warnings": []},
    )  # fmt: skip


def test_a_bundle_learns_what_it_was_made_for(encoders, tmp_path):
    bundle, said = bundle_of(encoders), []
    add_novelty(bundle, Store(encoders), NoveltySettings(clips=60), 0, said.append)
    assert set(bundle.novelty.views) == {"face", "sound", "embedding"} and len(said) == 4
    assert bundle.novelty.views["embedding"].refused is None
    measured = bundle.card["novelty"]["measured"]
    assert measured["clips"] == {name: {"train": 80, "val": 100} for name in ("face", "sound")}
    assert measured["face_size_curve"] == []  # 15 clips of each class are fewer than it needs
    save_bundle(bundle, tmp_path / "b")
    novelty = load_bundle(tmp_path / "b").novelty
    usual, strange = make_clip(999), make_clip(998)
    strange.tracks[0].crops[:, ::2] = 255  # white lines
    strange.audio[:] = 0.5 * np.sin(np.arange(24000) * 0.3)
    assert novelty.screen(collect_evidence(usual, encoders)).evidence.voice is not None
    assert novelty.screen(collect_evidence(usual, encoders)).evidence.face is not None
    found = novelty.screen(collect_evidence(strange, encoders))
    assert found.evidence.voice is None and found.evidence.face is None


def test_too_few_clips_set_no_limits(encoders):
    bundle, store = bundle_of(encoders), Store(encoders)
    store.clips = {"train": range(5), "val": range(100, 105)}
    add_novelty(bundle, store, NoveltySettings(), 0, lambda line: None)
    assert bundle.novelty == Novelty({}, None)


# -- the report -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A manifest of face crops and voices, three genuine ones and a fake of each."""
    folder, miniature, rows = tmp_path_factory.mktemp("media"), Miniature(), []
    for number in range(4):
        fake = number == 3
        miniature.image(folder / f"{number}.png", number, fake, 112)
        miniature.speech(folder / f"{number}.wav", number, fake, 1.3)
        rows += [
            {"path": f"{number}.png", "kind": "image", "label": int(fake), "dataset": "Crops"},
            {"path": f"{number}.wav", "kind": "audio", "label": int(fake), "dataset": "Voices"},
        ]
    pd.DataFrame(rows).assign(split="val").to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def everything(name: str, size: int, refused: float) -> View:
    return View(Mixture.fit(np.random.default_rng(0).standard_normal((50, size)), 1, 0), -1e9, refused)


def test_the_report_says_what_is_refused_and_what_would_have_been_said(encoders, media, tmp_path, capsys):
    bundle = bundle_of(encoders)
    bundle.novelty = Novelty({"sound": everything("sound", 46, -1e8)}, smallest_face_px=35.0)
    save_bundle(bundle, tmp_path / "b")
    novelty_report.report(
        [f"data.root={media}", "data.face_crops=[Crops]", f"bundle={tmp_path / 'b'}", "clips=2",
         f"out={tmp_path / 'out'}"]
    )  # fmt: skip
    rows = pd.DataFrame(json.loads((tmp_path / "out" / "novelty.json").read_text())["rows"])
    told = rows.set_index(["modality", "kind"])
    assert (rows[rows["modality"] == "audio"]["refused"] == 1).all()  # as that view refuses everything
    assert (rows[rows["modality"] == "audio"]["sure"] == 0).all()
    assert told.loc[("visual", "20 pixels high"), "refused"] == 1
    assert told.loc[("visual", "40 pixels high"), "refused"] == 0
    assert told.loc[("visual", "Crops, genuine"), ["n", "judged"]].tolist() == [2, 1]
    assert {"cartoon", "thermal", "rendered head", "grey"} <= set(rows[rows["modality"] == "visual"]["kind"])
    assert {"drums", "babble", "mulaw 8", "1.2 s"} <= set(rows[rows["modality"] == "audio"]["kind"])
    assert "| 20 pixels high | 2 | 100 % |" in capsys.readouterr().out


def test_the_report_wants_a_split_that_is_there(encoders, media, tmp_path):
    save_bundle(bundle_of(encoders), tmp_path / "b")
    settings = [f"data.root={media}", f"bundle={tmp_path / 'b'}", f"out={tmp_path}"]
    with pytest.raises(ConfigError, match="no clip of the train split"):
        novelty_report.report([*settings, "split=train"])
    with pytest.raises(ConfigError, match="settings cannot be read"):
        novelty_report.report([*settings, "colour=red"])


def test_a_shrunk_face_has_the_side_it_is_said_to_have():
    clip = make_clip(1)
    small = novelty_report.shrunk(replace(clip, tracks=clip.tracks), 30)
    boxes = small.tracks[0].boxes
    assert (boxes[:, 2:] - boxes[:, :2]).max(axis=1) == pytest.approx(30)
    assert not np.array_equal(small.tracks[0].crops, clip.tracks[0].crops)
