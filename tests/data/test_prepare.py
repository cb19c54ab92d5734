import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import wave

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from avdetect.data.commands import index as index_command
from avdetect.data.commands import prepare as prepare_command
from avdetect.data.manifest import Manifest
from avdetect.data.prepare import RECORD, PreparedSet, prepare
from avdetect.data.workers import run_in_workers
from avdetect.errors import DataError
from avdetect.media import ClipSettings

SETTINGS = ClipSettings(crop_size=32, mouth_size=16)

# Workers are processes of their own: what they run must stand in a module that they can import.
MODULE = """
import os, signal, time
import numpy as np
from avdetect.media import Detections

class Middle:
    '''One face in the middle of every frame; a white frame kills the process, as a decoder's fault would.'''
    def __init__(self, slow_s=0.0):
        self.slow_s = slow_s
    def detect(self, images, min_face_px):
        time.sleep(self.slow_s)
        if images[0].mean() > 240:
            os.kill(os.getpid(), signal.SIGKILL)
        height, width = images[0].shape[:2]
        box = np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], np.float32)
        points = np.array([[[.4, .4], [.6, .4], [.5, .5], [.42, .6], [.58, .6]]]) * [width, height]
        return [Detections(box, np.ones(1, np.float32), points.astype(np.float32)) for _ in images]

def slow():
    return Middle(0.2)

def broken():
    raise RuntimeError("no detector today")

def make_work():
    return work

def work(task):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(3)
    return task * 2
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fake_detector.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "fake_detector", raising=False)
    import fake_detector

    return fake_detector


def write_video(path, level=100, seconds=1.0, sound=True):
    """96 x 96 at 25 fps with a moving bar; `level` is the brightness."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 96
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for i in range(round(25 * seconds)):
            image = np.full((96, 96, 3), level, np.uint8)
            image[:, 3 * (i % 32) : 3 * (i % 32) + 3] = min(level + 20, 255)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode())
        if audio is not None:
            wave_ = 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9)
            frame = av.AudioFrame.from_ndarray(wave_[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate = 16000
            container.mux(audio.encode(frame))
            container.mux(audio.encode())


def write_wav(path, seconds=1.0):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((3000 * np.sin(np.arange(round(16000 * seconds)) / 7)).astype(np.int16).tobytes())


@pytest.fixture
def mixed(tmp_path):
    """A video, a silent one, a recording, a picture, a text named as a video, and one that is not there."""
    root = tmp_path / "media"
    root.mkdir()
    write_video(root / "a.mp4")
    write_video(root / "silent.mp4", sound=False)
    write_wav(root / "voice.wav")
    Image.fromarray(np.full((96, 96, 3), 90, np.uint8)).save(root / "face.png")
    (root / "text.mp4").write_text("this is no video")
    names = ["a.mp4", "silent.mp4", "voice.wav", "face.png", "text.mp4", "gone.mp4"]
    table = pd.DataFrame({"path": names, "label": [0, 1, 0, 1, 0, 1], "split": ["train"] * 4 + ["val"] * 2})
    return Manifest(table, root=root, name="mixed")


def table_text(out):
    return (out / "prepared.csv").read_text()


def test_every_kind_of_file(mixed, tmp_path, fake, capsys):
    out = tmp_path / "out"
    prepared = prepare(mixed, out, SETTINGS, workers=0, detector_factory=fake.Middle)
    table = pd.read_csv(out / "prepared.csv")
    assert tuple(table.columns) == RECORD
    assert table["status"].tolist() == ["ok"] * 4 + ["failed", "missing"]
    assert table["tracks"].tolist()[:4] == [1, 1, 0, 1]
    assert table["has_audio"].tolist()[:4] == [True, False, True, False]
    assert table.loc[0, "mouths"] == 25 and table.loc[0, "crops"] >= 3
    assert table.loc[0, "duration_s"] == pytest.approx(1.0, abs=0.1)
    assert "text.mp4" in table.loc[4, "reason"] and table.loc[5, "reason"] == "the file is not there"
    assert sorted(os.listdir(out)) == ["clips", "prepared.csv", "settings.json"]
    assert sorted(os.listdir(out / "clips")) == sorted(file.split("/")[1] for file in table["file"].dropna())

    assert prepared.rows("visual")["path"].tolist() == ["a.mp4", "silent.mp4", "face.png"]
    assert prepared.rows("visual")["truth"].tolist() == [0, 1, 1]
    assert prepared.rows("audio", "train")["path"].tolist() == ["a.mp4", "voice.wav"]
    assert prepared.rows("lipsync", min_mouths=25)["path"].tolist() == ["a.mp4"]
    assert prepared.rows("lipsync", min_mouths=26).empty and prepared.rows("clip", "val").empty
    assert len(prepared.rows("clip")) == 4
    clip = prepared.load(prepared.table.iloc[0])
    assert clip.settings == SETTINGS and clip.tracks[0].crops.shape[1:] == (32, 32, 3)
    with prepared.clip_file(prepared.table.iloc[0]) as file:
        assert np.array_equal(file.crop(0, 0), clip.tracks[0].crops[0])

    said = capsys.readouterr()
    assert said.out == "" and "prepared 5 of 5 clips, 1 failed" in said.err
    assert "6 clips: 4 ok, 1 failed, 1 missing" in said.err
    assert (
        "failed: mixed/text.mp4: " in said.err
        and "missing: mixed/gone.mp4: the file is not there" in said.err
    )


def test_what_is_there_is_kept_and_what_changed_is_read_again(mixed, tmp_path, fake):
    out = tmp_path / "out"
    prepare(mixed, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    before, first = {p.name: p.stat().st_mtime_ns for p in (out / "clips").iterdir()}, table_text(out)
    prepare(mixed, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    assert {p.name: p.stat().st_mtime_ns for p in (out / "clips").iterdir()} == before
    assert table_text(out) == first

    root = mixed.file_of(mixed.table.iloc[0]).parent
    write_wav(root / "voice.wav", seconds=2.0)  # changed
    write_video(root / "text.mp4")  # repaired
    write_video(root / "gone.mp4")  # arrived
    (root / "face.png").unlink()  # finished, then removed
    prepared = prepare(mixed, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    after = {p.name: p.stat().st_mtime_ns for p in (out / "clips").iterdir()}
    files = prepared.table.set_index("path")["file"].str.removeprefix("clips/")
    assert prepared.table["status"].tolist() == ["ok"] * 6 and prepared.failures.empty
    for name in ("a.mp4", "silent.mp4", "face.png"):
        assert after[files[name]] == before[files[name]]
    assert after[files["voice.wav"]] > before[files["voice.wav"]]
    assert prepared.table.set_index("path").loc["voice.wav", "duration_s"] == pytest.approx(2.0, abs=0.01)


def test_a_lost_result_is_made_again_and_other_manifests_keep_theirs(mixed, tmp_path, fake):
    out = tmp_path / "out"
    one, other = mixed.where("path == 'a.mp4'"), mixed.where("path == 'voice.wav'")
    prepare(one, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    prepared = prepare(other, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    assert len(prepared.table) == 1
    assert PreparedSet.open(out, mixed).table["status"].tolist() == [
        "ok", "unprepared", "ok", "unprepared", "unprepared", "unprepared"
    ]  # fmt: skip
    assert "unprepared: mixed/silent.mp4: not prepared yet" in PreparedSet.open(out, mixed).report()
    (out / PreparedSet.open(out, one).table.loc[0, "file"]).unlink()
    prepare(one, out, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    assert PreparedSet.open(out, one).load(PreparedSet.open(out, one).table.iloc[0]).kind == "video"


def test_other_settings_other_folders_and_empty_manifests_are_refused(mixed, tmp_path, fake):
    out = tmp_path / "out"
    voice = mixed.where("path == 'voice.wav'")
    prepare(voice, out, SETTINGS, workers=0, progress=False)
    with pytest.raises(DataError, match=r"other clip settings \(crop_size 32, not 64\)"):
        prepare(voice, out, ClipSettings(crop_size=64, mouth_size=16), workers=0)
    (out / "settings.json").write_text(
        (out / "settings.json").read_text().replace('"crop_size": 32', '"crop_size": 33')
    )
    with pytest.raises(DataError, match="settings.json is damaged"):
        prepare(voice, out, SETTINGS, workers=0)
    with pytest.raises(DataError, match="not empty and is no prepared folder"):
        prepare(voice, voice.table.loc[0, "root"], SETTINGS, workers=0)
    with pytest.raises(DataError, match="not a prepared folder"):
        PreparedSet.open(tmp_path / "none", voice)
    with pytest.raises(DataError, match="nothing to prepare"):
        prepare(mixed.where("label == 7"), tmp_path / "out2", SETTINGS, workers=0)
    with pytest.raises(DataError, match="a.mp4 more than once"):
        prepare(Manifest.join([mixed, mixed], check=False), tmp_path / "out2", SETTINGS, workers=0)
    assert not (tmp_path / "out2").exists()


def test_a_folder_from_before_a_setting_existed_is_continued(mixed, tmp_path):
    out = tmp_path / "prepared"
    voice = mixed.where("path == 'voice.wav'")
    prepare(voice, out, SETTINGS, workers=0, progress=False)
    content = json.loads((out / "settings.json").read_text())
    for name in ("sampling", "crop_policy", "mouth_region", "mouth_colour"):
        del content["clip_settings"][name]
    stored = json.dumps(content["clip_settings"], sort_keys=True).encode()
    content["sha256"] = hashlib.sha256(stored).hexdigest()
    (out / "settings.json").write_text(json.dumps(content))
    before = table_text(out)
    prepare(voice, out, SETTINGS, workers=0, progress=False)
    assert table_text(out) == before


def test_a_dying_worker_costs_only_its_own_clip(tmp_path, fake):
    root = tmp_path / "media"
    root.mkdir()
    for i in range(6):
        write_video(root / f"{i}.mp4", level=255 if i == 1 else 100, seconds=0.5)
    manifest = Manifest(pd.DataFrame({"path": [f"{i}.mp4" for i in range(6)]}), root=root, name="D")
    prepared = prepare(
        manifest, tmp_path / "out", SETTINGS, workers=2, progress=False, detector_factory=fake.Middle
    )
    assert prepared.table["status"].tolist() == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert "killed by SIGKILL" in prepared.table.loc[1, "reason"]


def test_workers_name_their_dead_and_go_on(fake):
    done = {
        task: (result, why)
        for task, result, why in run_in_workers([1, "die", 2, "exit", 3], fake.make_work, 2)
    }
    assert {task: result for task, (result, why) in done.items() if not why} == {1: 2, 2: 4, 3: 6}
    assert done["die"][1].endswith("was killed by SIGKILL (often: out of memory)")
    assert done["exit"][1].endswith("ended with exit code 3")
    assert list(run_in_workers([], fake.make_work, 2)) == []
    assert list(run_in_workers([4], fake.make_work, 0)) == [(4, 8, "")]


def test_a_worker_that_cannot_start_is_an_error(mixed, tmp_path, fake):
    with pytest.raises(DataError, match="could not start: RuntimeError: no detector today"):
        prepare(mixed, tmp_path / "out", SETTINGS, workers=1, progress=False, detector_factory=fake.broken)


def test_killed_and_run_again_gives_the_same_table(tmp_path, fake):
    root = tmp_path / "media"
    root.mkdir()
    for i in range(8):
        write_video(root / f"{i}.mp4", level=60 + 10 * i, seconds=0.4)
    (root / "8.mp4").write_text("no video")
    manifest = Manifest(pd.DataFrame({"path": [f"{i}.mp4" for i in range(10)]}), root=root, name="D")
    whole = tmp_path / "whole"
    prepare(manifest, whole, SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)

    manifest.write(tmp_path / "m.csv")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom avdetect.data.manifest import Manifest\nfrom avdetect.data.prepare import prepare\n"
        "from avdetect.media import ClipSettings\nimport fake_detector\n"
        "if __name__ == '__main__':\n"
        f"    prepare(Manifest.read({str(tmp_path / 'm.csv')!r}), {str(tmp_path / 'killed')!r},\n"
        "            ClipSettings(crop_size=32, mouth_size=16), workers=2,\n"
        "            detector_factory=fake_detector.slow)\n"
    )
    journal = tmp_path / "killed" / "journal.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.Popen(
        [sys.executable, script], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.is_file() and journal.read_text().count("\n") >= 3):
        assert run.poll() is None, run.stderr.read().decode()
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "killed" / "prepared.csv").read_text().count("ok")
    finished = [json.loads(line)["file"] for line in journal.read_text().split("\n")[:-1]]
    assert 3 <= len(finished) < 9
    with journal.open("a") as file:
        file.write('{"key": "D/7.mp4", "status": "o')  # as a kill in the middle of a line leaves it
    (tmp_path / "killed" / "clips" / ".x.npz.abc.tmp").write_bytes(b"half")
    times = {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in finished}

    prepare(manifest, tmp_path / "killed", SETTINGS, workers=0, progress=False, detector_factory=fake.Middle)
    assert table_text(tmp_path / "killed") == table_text(whole)
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in finished} == times
    assert sorted(os.listdir(tmp_path / "killed" / "clips")) == sorted(os.listdir(whole / "clips"))
    assert not journal.exists()
    both = [PreparedSet.open(folder, manifest) for folder in (whole, tmp_path / "killed")]
    one, two = (prepared.load(prepared.table.iloc[5]) for prepared in both)
    assert np.array_equal(one.tracks[0].crops, two.tracks[0].crops) and np.array_equal(one.audio, two.audio)


def test_commands_write_say_and_count_failures(tmp_path, capsys):
    root = tmp_path / "set"
    root.mkdir()
    write_wav(root / "a.wav")
    (root / "b.wav").write_text("no sound")
    (root / "manifest.csv").write_text(
        "path,label,split,dataset\na.wav,0,train,S\nb.wav,1,train,S\nc.wav,1,val,S\n"
    )
    index_command("auto", root, tmp_path / "m.parquet")
    said = capsys.readouterr()
    assert said.out == "" and "c.wav" in said.err and "3 clips written to" in said.err.replace("\n", " ")
    assert len(Manifest.read(tmp_path / "m.parquet")) == 3
    assert prepare_command(tmp_path / "m.parquet", tmp_path / "out", workers=1, crop_size=96) == 1
    assert PreparedSet.open(tmp_path / "out", Manifest.read(tmp_path / "m.parquet")).settings.crop_size == 96
    assert "failed: S/b.wav" in capsys.readouterr().err
    assert (
        prepare_command(tmp_path / "m.parquet", tmp_path / "out", workers=1, crop_size=96, where="label == 0")
        == 0
    )
