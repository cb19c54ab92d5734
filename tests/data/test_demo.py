"""The demo set: DFDC layout, repeatable to the byte, safe against kills, without a shortcut to the label."""

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from avdetect.data.demo import dataset, fakes, make_demo, speech
from avdetect.data.demo.faces import UNIT, X, Y, paint_head, random_face, random_light
from avdetect.data.demo.features import Painter
from avdetect.errors import ConfigError, DataError

SMALL = {"clips": 12, "seed": 3, "seconds": (1.0, 1.3)}
KINDS = {"", *fakes.METHODS}
SPLIT_RANGES = {"train": range(0, 35), "val": range(35, 40), "test": range(40, 50)}


def read_truth(root: Path) -> list[dict[str, str]]:
    with open(root / "demo_truth.csv", newline="") as file:
        return list(csv.DictReader(file))


def split_of(path: str) -> str:
    part = int(re.match(r"dfdc_train_part_(\d+)/", path)[1])
    return next(split for split, parts in SPLIT_RANGES.items() if part in parts)


def digests(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def measure(path: Path) -> dict[str, float]:
    """What a shortcut could lean on: sizes and rates of the file, level and silence of the sound."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        blocks = list(container.decode(audio))
        sound = np.concatenate([block.to_ndarray()[0] for block in blocks])
        rate = audio.rate
        found = {
            "size": path.stat().st_size,
            "frames": video.frames,
            "duration": float(video.duration * video.time_base),
            "video_bitrate": video.bit_rate,
            "audio_bitrate": audio.bit_rate,
            "audio_start": float(blocks[0].pts * blocks[0].time_base),
        }
    window = rate // 50
    level = np.sqrt(np.convolve(sound**2, np.ones(window) / window, "same"))
    found["loudness"] = float(np.sqrt(np.mean(sound**2)))
    found["leading_silence"] = float(np.argmax(level > 0.05 * level.max()) / rate)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo") / "set", **SMALL)


def test_small_set_is_dfdc_with_every_kind_in_every_split(small):
    truth = {row["path"]: row for row in read_truth(small)}
    listed = {}
    for file in sorted(small.glob("dfdc_train_part_*/metadata.json")):
        entries = json.loads(file.read_text())
        on_disk = {path.name for path in file.parent.iterdir()} - {"metadata.json"}
        assert set(entries) == on_disk
        for name, entry in entries.items():
            assert re.fullmatch(r"[a-z]{10}\.mp4", name)
            if entry["label"] == "REAL":
                assert entry == {"label": "REAL", "split": "train"}
            else:
                assert set(entry) == {"label", "split", "original"} and entry["label"] == "FAKE"
                assert entries[entry["original"]]["label"] == "REAL"
            row = truth[f"{file.parent.name}/{name}"]
            assert row["label"] == str(int(entry["label"] == "FAKE"))
            assert row["source"] == entry.get("original", name)
            listed[f"{file.parent.name}/{name}"] = row["method"]
    assert set(listed) == set(truth) and len(truth) == 12
    for split in SPLIT_RANGES:
        assert {method for path, method in listed.items() if split_of(path) == split} == KINDS


def test_truth_per_modality(small):
    expected = {"": "000", "face_swap": "110", "voice_resynthesis": "101", "out_of_sync": "100"}
    for row in read_truth(small):
        labels = row["label"] + row["visual_label"] + row["audio_label"]
        assert labels == expected[row["method"]]
        assert row["subject"].count("+") == (row["method"] == "face_swap")


@pytest.mark.parametrize("clips", [12, 13, 37, 240])
def test_plan_counts_kinds_and_keeps_subjects_apart(clips):
    plans = dataset.plan_clips(clips, seed=1)
    assert len({plan.name for plan in plans}) == len({plan.index for plan in plans}) == len(plans) == clips
    people = {}
    for split, parts in dataset.PARTS.items():
        here = [plan for plan in plans if plan.part in parts]
        people[split] = {plan.subject for plan in here} | {plan.donor for plan in here} - {None}
        counts = [sum(plan.method == method for plan in here) for method in fakes.METHODS]
        assert min(counts) >= 1 and max(counts) - min(counts) <= 1
        if clips == 240:
            assert sum(counts) == len(here) / 2 and set(parts) == {plan.part for plan in here}
            assert len(people[split]) >= {"train": 24, "val": 8, "test": 10}[split]
        assert all(plan.donor != plan.subject for plan in here)
    assert not people["train"] & people["val"] and not people["test"] & (people["train"] | people["val"])


def test_fakes_share_with_their_original_what_could_give_them_away(small):
    truth = read_truth(small)
    found = {row["path"]: measure(small / row["path"]) for row in truth}
    for row in truth:
        part = row["path"].split("/")[0]
        fake, genuine = found[row["path"]], found[f"{part}/{row['source']}"]
        for name in ("frames", "duration", "audio_start"):
            assert fake[name] == genuine[name]
        assert fake["audio_start"] == 0
        assert fake["loudness"] == pytest.approx(genuine["loudness"], rel=0.05)
        assert fake["size"] == pytest.approx(genuine["size"], rel=0.15)
        assert fake["audio_bitrate"] == pytest.approx(genuine["audio_bitrate"], rel=0.15)


def test_same_bytes_with_two_processes_and_others_with_another_seed(small, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "CLIPS_PER_PROCESS", 6)
    environment = dict(os.environ)
    again = make_demo(tmp_path / "again", **SMALL, workers=2)
    assert dict(os.environ) == environment
    assert digests(again) == digests(small)
    assert [p.name for p in dataset.plan_clips(12, 4)] != [p.name for p in dataset.plan_clips(12, 3)]


def test_complete_set_returns_at_once(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    calls = []
    assert make_demo(small, **SMALL, progress=lambda *c: calls.append(c)) == small
    assert not calls and {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_killed_run_is_continued_to_the_same_set(small, tmp_path):
    root = tmp_path / "set"
    code = f"from avdetect.data.demo import make_demo; make_demo({str(root)!r}, workers=1, **{SMALL!r})"
    checkout = Path(dataset.__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while len(list(root.glob("*/*.mp4"))) < 3 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not json.loads((root / "demo.json").read_text())["complete"]
    calls = []
    make_demo(root, **SMALL, progress=lambda *c: calls.append(c))
    assert calls[0][0] > 3 and calls[-1] == (12, 12)
    assert digests(root) == digests(small)


def test_refuses_what_it_cannot_do(small, tmp_path):
    with pytest.raises(ConfigError, match="at least 12"):
        make_demo(tmp_path / "few", clips=11)
    with pytest.raises(ConfigError, match="durations"):
        make_demo(tmp_path / "backwards", seconds=(3.0, 2.0))
    with pytest.raises(DataError, match="made with"):
        make_demo(small, **(SMALL | {"seed": 4}))
    (tmp_path / "dfdc_train_part_0").mkdir()
    with pytest.raises(DataError, match="not empty"):
        make_demo(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "demo.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read"):
        make_demo(broken)


def test_mouth_follows_the_voice():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        spoken = speech.speak(speech.random_voice(rng), 4.0, rng)
        count = 4 * 25
        loud = speech.record(spoken.audio, rng)[: count * 640].reshape(count, 640)
        energy = np.log(np.sqrt(np.mean(loud**2, axis=1)) + 0.01 * np.abs(loud).max())
        grid = np.arange(len(spoken.opening)) / speech.CONTROL_RATE
        opening = np.interp((np.arange(count) + 0.5) / 25, grid, spoken.opening)
        lags = range(-15, 16)
        match = [
            np.corrcoef(energy[max(0, k) : count + min(0, k)], opening[max(0, -k) : count + min(0, -k)])[0, 1]
            for k in lags
        ]
        assert abs(lags[int(np.argmax(match))]) <= 1 and max(match) > 0.5


def test_resynthesis_keeps_the_spectrum_and_loses_the_phase():
    rng = np.random.default_rng(0)
    audio = speech.record(speech.speak(speech.random_voice(rng), 2.0, rng).audio, rng)
    for seed in range(4):
        fake = fakes.resynthesise(audio, np.random.default_rng(seed))
        assert fake.shape == audio.shape and np.isfinite(fake).all()
        bands = [np.log(np.abs(np.fft.rfft(x.reshape(-1, 400)))[:, 1:].mean(0)) for x in (audio, fake)]
        assert np.corrcoef(*bands)[0, 1] > 0.9
        assert abs(np.corrcoef(audio, fake)[0, 1]) < 0.9


def test_out_of_sync_shifts_are_noticeable_both_ways():
    rng = np.random.default_rng(0)
    shifts = np.array([fakes.out_of_sync_shift(rng) for _ in range(200)])
    assert np.abs(shifts).min() >= 0.2 and np.abs(shifts).max() <= 0.8
    assert 60 < (shifts > 0).sum() < 140


def test_face_swap_changes_the_inner_face_only():
    rng = np.random.default_rng(5)
    light = random_light(rng)
    target, donor = random_face(rng), random_face(rng)
    painter, other = (Painter(face, paint_head(face, light), light) for face in (target, donor))
    swap = fakes.FaceSwap(target, other, 4, rng)
    state = (0.5, 0.2, 0.0, (0.0, 0.0))
    before = painter.paint(*state)
    after = swap.apply(before, 0, *state)
    difference = np.abs(after[..., :3].astype(int) - before[..., :3]).max(axis=-1)
    rim = (np.abs(X) > target.width + 2 / UNIT) | (Y < -0.6) | (Y > 0.95)
    assert difference[rim].max() == 0 and (after[..., 3] == before[..., 3]).all()
    assert difference[(np.abs(X) < 0.3) & (np.abs(Y - 0.2) < 0.3)].mean() > 8
    assert np.abs(swap.apply(before, 1, *state).astype(int) - after).max() > 3  # it trembles


def test_faces_are_found_in_the_clips(small):
    from facenet_pytorch import MTCNN

    detector, seen, missed = MTCNN(keep_all=True), 0, []
    for row in read_truth(small):
        with av.open(str(small / row["path"])) as container:
            images = [frame.to_image() for frame in container.decode(video=0)][::6]
        for number, probabilities in enumerate(detector.detect(images)[1]):
            seen += 1
            if probabilities[0] is None or probabilities[0] < 0.9:
                missed.append((row["path"], number))
        assert isinstance(images[0], Image.Image) and min(images[0].size) >= 256
    assert seen >= 48 and len(missed) <= 0.01 * seen, missed


@pytest.mark.slow
def test_default_set_has_no_shortcut_to_the_label(tmp_path):
    """Each simple property separates fakes from genuine clips no better than chance (AUC 0.4 to 0.6)."""
    root = make_demo(tmp_path / "demo")
    truth = read_truth(root)
    labels = [int(row["label"]) for row in truth]
    found = [measure(root / row["path"]) for row in truth]
    for name in found[0]:
        area = roc_auc_score(labels, [row[name] for row in found])
        assert 0.4 <= area <= 0.6, (name, area)
