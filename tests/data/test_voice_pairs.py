"""Pairs of voices over a prepared set of tones."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.data.loaders import collate
from avdetect.data.manifest import Manifest
from avdetect.data.prepare import RECORD, SCHEMA, PreparedSet, _digest
from avdetect.data.voice_pairs import GENUINE, LABELLED, PSEUDO, VoicePairDataset, VoicePairSettings
from avdetect.errors import ConfigError, DataError
from avdetect.media import Clip, ClipSettings, MediaInfo, save_clip
from avdetect.training.sampling import ShuffledBatches
from avdetect.transforms import AudioAugment, AudioPreprocess

RATE = 16000
SETTINGS = ClipSettings(crop_size=8, mouth_size=6)
PRE = AudioPreprocess(window_s=0.5, hop_s=0.25)
PLAIN = AudioAugment(crop_s=None, gain_p=0.0, band_p=0.0, noise_p=0.0, polarity_p=0.0)
NO_DIRT = VoicePairSettings(dirt_p=0.0, reverb_p=0.0)


def sound(number, seconds):
    """A harmonic tone, of another pitch for every number."""
    time = np.arange(round(seconds * RATE)) / RATE
    waves = [np.sin(2 * np.pi * (100 + 20 * number) * k * time) / k for k in range(1, 20)]
    return (0.05 * sum(waves)).astype(np.float32)


@pytest.fixture
def make(tmp_path):
    """A prepared set of recordings given as (label, source, seconds)."""

    def build(*given):
        (tmp_path / "clips").mkdir()
        content = {
            "schema": SCHEMA,
            "sha256": _digest(SETTINGS.to_dict()),
            "clip_settings": SETTINGS.to_dict(),
        }
        (tmp_path / "settings.json").write_text(json.dumps(content))
        records, info = [], MediaInfo(**{name: None for name in MediaInfo.__dataclass_fields__})
        for i, (_, _, seconds) in enumerate(given):
            clip = Clip("x", "audio", seconds, info, SETTINGS, [], sound(i, seconds))
            save_clip(clip, tmp_path / "clips" / f"{i}.npz")
            records.append(dict.fromkeys(RECORD) | {
                "key": f"D/{i}.wav", "path": f"{i}.wav", "root": "/", "status": "ok", "file": f"clips/{i}.npz",
                "tracks": 0, "crops": 0, "mouths": 0, "has_audio": True,
                "duration_s": seconds, "size_bytes": 1, "mtime_ns": 1,
            })  # fmt: skip
        pd.DataFrame(records, columns=list(RECORD)).to_csv(tmp_path / "prepared.csv", index=False)
        table = pd.DataFrame(
            {
                "path": [f"{i}.wav" for i in range(len(given))],
                "kind": "audio",
                "label": [label for label, _, _ in given],
                "source": [source for _, source, _ in given],
            }
        )
        return PreparedSet.open(tmp_path, Manifest(table, name="D"))

    return build


def dataset(prepared, settings=NO_DIRT, channel=PLAIN, training=True):
    return VoicePairDataset(prepared, prepared.rows("audio"), PRE, settings, channel, training)


def test_a_pair_is_a_moment_and_its_copy(make):
    data = dataset(make((0, "a", 1.0), (0, "b", 0.4)))
    batch = collate([data[0], data[1]])
    assert batch["x"].shape == (4, PRE.window_samples) and batch["label"].tolist() == [0, 1, 0, 1]
    whole = torch.from_numpy(sound(0, 1.0)).unfold(0, PRE.window_samples, 1)
    assert (whole == batch["x"][0]).all(1).any() and not (whole == batch["x"][1]).all(1).any()
    # too short a recording is repeated on both sides alike
    torch.testing.assert_close(batch["x"][2][6400:], batch["x"][2][:1600])
    torch.testing.assert_close(batch["x"][3][6400:], batch["x"][3][:1600])


def test_draws_follow_from_the_epoch_and_copies_are_reused(make):
    data = dataset(make((0, "a", 0.5)), VoicePairSettings(dirt_p=0.0, reverb_p=0.0, reuse=2))
    drawn = []
    for epoch in (0, 1, 2, 0):
        data.set_epoch(epoch)
        drawn.append(data[0]["x"])
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[3])
    assert torch.equal(drawn[0][0], drawn[2][0]) and not torch.equal(drawn[0][1], drawn[2][1])


def test_both_sides_pass_the_same_channel(make):
    prepared = make((0, "a", 0.5), (1, "a", 0.5))
    channel = AudioAugment(crop_s=None, noise_p=0.0, band_p=1.0, polarity_p=0.5)
    settings = VoicePairSettings(labelled=1.0, dirt_p=0.0, reverb_p=1.0)
    data = dataset(prepared, settings, channel)
    data._sound["D/1.wav"] = sound(0, 0.5)  # a fake that equals its original must still do so afterwards
    x = data[0]["x"]
    torch.testing.assert_close(x[0], x[1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(x[0], torch.from_numpy(sound(0, 0.5)), atol=1e-3)


def test_labelled_fakes_stand_beside_their_source(make):
    data = dataset(make((0, "a", 0.5), (1, "a", 0.5), (0, "b", 0.5)), VoicePairSettings(1.0, 0.0, 0.0))
    assert len(data) == 2
    torch.testing.assert_close(data[0]["x"][1], torch.from_numpy(sound(1, 0.5)))
    assert not torch.equal(data[1]["x"][1], torch.from_numpy(sound(1, 0.5)))


def test_validation_has_originals_copies_and_labelled_fakes(make):
    data = dataset(make((0, "a", 1.5), (1, "a", 0.5)), training=False)
    genuine, fake = data[0], data[1]
    assert genuine["origin"].tolist() == [GENUINE] * 2 + [PSEUDO] * 2
    assert genuine["label"].tolist() == [0, 0, 1, 1] and genuine["clip"].tolist() == [0, 0, 1, 1]
    assert (
        fake["origin"].tolist() == [LABELLED]
        and fake["label"].tolist() == [1]
        and fake["clip"].tolist() == [2]
    )
    assert torch.equal(genuine["x"], data[0]["x"])


def test_settings_and_data_that_do_not_fit(make):
    with pytest.raises(ConfigError, match=r"train.audio.pseudo.dirt_p is 2: it must be in \[0, 1\]"):
        VoicePairSettings(dirt_p=2)
    with pytest.raises(ConfigError, match="train.audio.pseudo.reuse is 0: it must be 1 or more"):
        VoicePairSettings(reuse=0)
    with pytest.raises(DataError, match="there is no genuine speech to make fakes of"):
        dataset(make((1, "a", 0.5)))


def test_a_recording_is_drawn_as_often_as_it_holds_windows_of_what_is_copied(make):
    prepared = make((0, "a", 0.7), (0, "b", 3.2), (0, "c", 30.0), (1, "a", 5.0))
    data = dataset(prepared)
    assert data.windows_held().tolist() == [1, 6, 12]
    batches = list(ShuffledBatches(3, 19, seed=1, times=data.windows_held()))
    drawn = sorted(batches[0])
    assert len(batches) == 1 and len(set(drawn)) == 19  # every time with another random number
    assert np.bincount(np.array(drawn) % 3).tolist() == [1, 6, 12]
    assert drawn[0] in range(3) and drawn[-1] == 2 + 3 * 11
