"""What the report of `genuine_only` does with a clip, and how its tasks are run."""

import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.inference import Detector, load_bundle
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo
from avdetect.recipes.genuine import jobs, lips
from avdetect.recipes.genuine.engine import Task, ToolPaths, Tools, run_tasks
from avdetect.recipes.genuine.generators import face_kinds, generator_folders

SIDE = 64
PER_FRAME = 640


def talking_clip(frames=30, start=2, seconds=1.5):
    rng = np.random.default_rng(frames)
    mouths = rng.integers(0, 255, (frames, 48, 48), dtype=np.uint8)
    crops = rng.integers(0, 255, (3, SIDE, SIDE, 3), dtype=np.uint8)
    times = np.arange(3) * 0.25
    boxes, probs = np.tile(np.float32([10, 10, 60, 60]), (3, 1)), np.ones(3, np.float32)
    track = FaceTrack(0, times, boxes, probs, times, crops, start, mouths)
    sound = rng.normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    info = MediaInfo("mp4", 1, "0")
    return Clip("x.mp4", "video", seconds, info, ClipSettings(crop_size=SIDE), [track], sound)


def test_sound_is_shifted_without_wrapping_round():
    sound = np.arange(1.0, 6.0, dtype=np.float32)
    assert jobs.shifted(sound, 2).tolist() == [0, 0, 1, 2, 3]
    assert jobs.shifted(sound, -2).tolist() == [3, 4, 5, 0, 0]
    assert jobs.shifted(sound, 0).tolist() == sound.tolist() and not jobs.shifted(sound, 5).any()


def test_joined_clips_keep_lips_and_sound_together():
    one, two = talking_clip(20, start=2), talking_clip(30, start=10, seconds=1.0)
    mouths, sound = jobs.join([one, two], PER_FRAME)
    assert len(mouths) == 50 and len(sound) == 50 * PER_FRAME
    np.testing.assert_array_equal(mouths[20:], two.tracks[0].mouths)
    np.testing.assert_array_equal(sound[: 20 * PER_FRAME], one.audio[2 * PER_FRAME : 22 * PER_FRAME])
    heard = len(two.audio) - 10 * PER_FRAME
    np.testing.assert_array_equal(sound[20 * PER_FRAME :][:heard], two.audio[10 * PER_FRAME :])
    assert not sound[20 * PER_FRAME + heard :].any()


def test_clips_of_one_speaker_are_joined_to_five_seconds():
    table = pd.DataFrame({"dataset": "A", "subject": ["p"] * 7 + ["q"] * 4, "mouths": [30] * 11})
    assert lips._joined(table) == [[0, 1, 2, 3, 4]]  # two of p are left over, q has 4.8 s


@pytest.fixture(scope="module")
def tools(genuine_bundle):
    torch.manual_seed(1)
    rivals = {"Meso4 DF": create_encoder("meso4").eval(), "AASIST": create_encoder("mel_cnn_tiny").eval()}
    return Tools(
        Detector(load_bundle(genuine_bundle)), rivals, {"face_generators": None, "voice_generators": None}
    )


def test_rivals_judge_the_same_clip(tools):
    clip = talking_clip()
    task = Task("judge", ("a.npz",), (("rivals", ("Meso4 DF", "AASIST", "Meso4 F2F")),))
    record = jobs.judge(task, [clip], tools)
    meso = tools.rivals["Meso4 DF"]
    with torch.inference_mode():
        expected = meso(meso.preprocess(clip.tracks[0].crops)).mean().item()
    assert record["rivals"]["Meso4 DF"] == pytest.approx(expected, abs=1e-5)
    assert set(record["rivals"]) == {"Meso4 DF", "AASIST"} and record["label"] in (
        "real",
        "fake",
        "uncertain",
    )


def test_a_genuine_face_and_its_fake_go_through_the_same_jpeg(tools, monkeypatch):
    stored = []
    monkeypatch.setattr(jobs, "_jpeg", lambda crop, quality: stored.append((crop, quality)) or crop)
    clips = [talking_clip(), talking_clip(31)]
    records = []
    for kind in (None, "smooth"):
        options = (("kind", kind), ("crops", 2), ("rivals", False))
        records.append(jobs.fake_face(Task("fake_face", ("a.npz", "b.npz"), options), clips, tools))
    assert len({quality for _, quality in stored}) == 1 and len(stored) == 4
    np.testing.assert_array_equal(stored[0][0], clips[0].tracks[0].crops[0])
    assert (stored[2][0] != stored[0][0]).any() and records[0]["logit"] != records[1]["logit"]


def test_known_shifts_are_found_by_an_encoder_that_hears_them(tools, monkeypatch):
    """The lips of this clip are its sound: the offset is the shift."""
    clip = talking_clip(40, start=0, seconds=1.6)
    asked = []

    def said(shifted, encoders):
        level = np.abs(shifted.audio).reshape(-1, PER_FRAME).sum(1) > 0
        asked.append((len(shifted.tracks[0].mouths), int(np.argmax(level)), int(np.argmax(level[::-1]))))
        return type("Said", (), {"sync": None})

    monkeypatch.setattr(jobs, "collect_evidence", said)
    task = Task("offsets", ("a.npz",), (("shifts", (0, 3, -2)), ("frames", 35)))
    found = jobs.offsets(task, [clip], tools)
    assert asked == [(35, 0, 0), (35, 3, 0), (35, 0, 2)]  # silence before late sound, after early sound
    assert [one["shift"] for one in found["found"]] == [0, 3, -2] and found["found"][0]["offset"] is None


# -- engine ---------------------------------------------------------------------------------------------------


def test_failed_tasks_have_a_sentence_and_are_tried_again(genuine_bundle, tmp_path):
    paths, journal = ToolPaths(str(genuine_bundle), None, None), tmp_path / "records.jsonl"
    task = Task("judge", (str(tmp_path / "gone.npz"),), (("rivals", ()),))
    (record,) = run_tasks([task], paths, journal, 0, print)
    assert "gone.npz is missing" in record["error"] and journal.read_text() == ""
    journal.write_text("{half")  # torn off by a kill
    assert "error" in run_tasks([task], paths, journal, 0, print)[0]
    journal.write_text("{}\n")
    with pytest.raises(DataError, match="line 1 is damaged"):
        run_tasks([task], paths, journal, 0, print)


def test_random_numbers_belong_to_the_clip_wherever_it_lies():
    first, moved = Task("judge", ("/a/clip.npz",)), Task("judge", ("/b/clip.npz",))
    assert first.rng("x").random() == moved.rng("x").random() != first.rng("y").random()
    assert first.asked == moved.asked


def test_generators_are_found_by_modality(tmp_path):
    with pytest.raises(ConfigError, match="neither visual nor audio"):
        generator_folders(str(tmp_path))
    assert "autoencoder" not in face_kinds(None)
    (tmp_path / "visual").mkdir()
    assert "autoencoder" in face_kinds(str(tmp_path)) and list(generator_folders(str(tmp_path))) == ["face"]
