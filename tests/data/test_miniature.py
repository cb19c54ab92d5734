"""The bank of drawn recordings: distinct pieces, repeatable files, honest manipulations; layouts written whole."""

import hashlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from avdetect.data.demo import layouts
from avdetect.data.demo.layouts import list_layouts, make_layout
from avdetect.data.demo.miniature import KINDS, Miniature
from avdetect.errors import ConfigError, DataError
from avdetect.media import frames_at, probe, read_audio


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def some_of_everything(media, out):
    for kind in KINDS:
        media.video(out / "videos" / f"{kind}.mp4", 0, kind)
    media.video(out / "again.mp4", 0)
    for fake in (False, True):
        media.image(out / f"face_{fake}.png", 0, fake, size=96)
        media.image(out / f"face_{fake}.jpg", 0, fake)
        media.images(out / f"frames_{fake}", 0, fake, count=3, start=7)
        for suffix in ("wav", "flac", "mp3", "m4a"):
            media.speech(out / f"speech_{fake}.{suffix}", 0, fake)
    return out


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tmp_path_factory.mktemp("bank")


@pytest.fixture(scope="module")
def pieces(bank, tmp_path_factory):
    return some_of_everything(Miniature(bank), tmp_path_factory.mktemp("pieces"))


def test_no_two_files_hold_the_same(pieces):
    found = digests(pieces)
    assert len(found) == 6 + 4 + 6 + 8 and len(set(found.values())) == len(found)
    assert sorted(p.name for p in (pieces / "frames_True").iterdir()) == ["007.png", "008.png", "009.png"]


def test_same_calls_give_same_bytes_from_the_folder_and_after_restart(bank, pieces, tmp_path):
    rendered = {p.name: p.stat().st_mtime_ns for p in bank.iterdir()}
    media = Miniature(bank)
    assert digests(some_of_everything(media, tmp_path / "a")) == digests(pieces)
    media.restart()
    assert digests(some_of_everything(media, tmp_path / "b")) == digests(pieces)
    assert {p.name: p.stat().st_mtime_ns for p in bank.iterdir()} == rendered


def test_another_seed_draws_others(pieces, tmp_path):
    other = Miniature(seed=1).speech(tmp_path / "speech.wav", 0, False)
    assert not np.array_equal(read_audio(other), read_audio(pieces / "speech_False.wav"))


def test_files_are_what_was_asked_for(bank, pieces, tmp_path):
    media = Miniature(bank)
    info = probe(pieces / "videos" / "genuine.mp4")
    assert (info.video_codec, info.audio_codec, info.width, info.height) == ("h264", "aac", 256, 256)
    assert info.duration_s == pytest.approx(1.2, abs=0.03) and info.fps == 25
    other = probe(media.video(tmp_path / "x.mp4", 0, seconds=2, fps=29.97, size=128, sound=False))
    assert (other.width, other.has_audio) == (128, False)
    assert other.fps == pytest.approx(29.97, abs=0.001) and other.duration_s == pytest.approx(2, abs=0.04)
    assert Image.open(pieces / "face_True.png").size == (96, 96)
    assert Image.open(pieces / "frames_True" / "007.png").size == (224, 224)
    sound = probe(media.speech(tmp_path / "x.flac", 0, True, seconds=2, rate=24000))
    assert (sound.sample_rate, sound.duration_s) == (24000, 2)


def picture_change(bank, tmp_path, kind, **options):
    """Mean absolute change of each frame against the same piece of the genuine recording."""
    pictures = []
    for name in ("genuine", kind):
        path = Miniature(bank).video(tmp_path / f"{name}.mp4", 0, name, sound=False, **options)
        times = np.arange(30) / 25 + 0.02
        pictures.append(np.stack([rgb for _, rgb in frames_at(path, times)]).astype(float))
    return np.abs(pictures[0] - pictures[1]).mean(axis=(1, 2, 3))


def test_manipulations_are_where_they_are_said_to_be(bank, tmp_path):
    assert picture_change(bank, tmp_path, "face_swap").min() > 1.5
    assert picture_change(bank, tmp_path, "voice_resynthesis").max() == 0
    part = picture_change(bank, tmp_path, "both", periods=[(0.4, 0.8)])
    inside = (np.arange(30) >= 10) & (np.arange(30) < 20)
    assert part[inside].min() > 2 * part[~inside].max()


def test_out_of_sync_is_the_same_voice_at_another_time(bank, tmp_path):
    media = Miniature(bank)
    genuine, shifted = (
        read_audio(media.video(tmp_path / f"{kind}.mp4", 0, kind)) for kind in ("genuine", "out_of_sync")
    )
    late = round(0.44 * 16000)  # the first piece is taken from before
    matched = np.corrcoef(genuine[: len(genuine) - late], shifted[late : len(genuine)])[0, 1]
    assert matched > 0.95 > abs(np.corrcoef(genuine, shifted[: len(genuine)])[0, 1])


def test_resynthesis_shares_level_and_start(pieces):
    levels = {}
    for fake in (False, True):
        sound = read_audio(pieces / f"speech_{fake}.wav")
        levels[fake] = 20 * np.log10(np.sqrt(np.mean(sound**2)))
    assert abs(levels[True] - levels[False]) < 4


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m, p: m.video(p / "a.mp4", 8), "subjects 0 to 7"),
        (lambda m, p: m.video(p / "a.mp4", 0, "swap"), "no kind 'swap'"),
        (lambda m, p: m.video(p / "a.mp4", 0, seconds=3.1), "at most 3 s"),
        (lambda m, p: m.images(p / "a", 0, True, count=76), "at most 3 s"),
        (lambda m, p: m.speech(p / "a.wav", 0, True, seconds=4.6), "at most 4.5 s"),
        (lambda m, p: m.speech(p / "a.xyz", 0, True), "a.xyz"),
        (lambda m, p: m.image(p / "a.gif", 0, True), "a.gif"),
    ],
)
def test_what_there_is_not_is_said(call, words, bank, tmp_path):
    with pytest.raises(ConfigError, match=words):
        call(Miniature(bank), tmp_path)


@pytest.fixture
def toy(monkeypatch):
    """A registered layout whose `make` can be exchanged."""

    def make(root, media):
        media.speech(root / "real" / "a.wav", 0, False)
        media.speech(root / "fake" / "b.wav", 0, True)

    module = SimpleNamespace(make=make)
    monkeypatch.setitem(layouts.LAYOUTS, "toy_set", "toy")
    monkeypatch.setitem(sys.modules, f"{layouts.__name__}.toy", module)
    return module


def test_layout_is_the_same_whatever_was_cut_before(toy, bank, tmp_path):
    media = Miniature(bank)
    first = digests(make_layout("toy_set", tmp_path / "a", media=media))
    (tmp_path / "b").mkdir()
    assert set(first) == {"real/a.wav", "fake/b.wav"}
    assert digests(make_layout("toy_set", tmp_path / "b", media=media)) == first
    assert "toy_set" in list_layouts()


def test_a_run_that_breaks_off_leaves_nothing_that_looks_complete(toy, bank, tmp_path):
    whole, media = toy.make, Miniature(bank)

    def broken(root, media):
        media.speech(root / "real" / "other.wav", 0, False)
        raise KeyboardInterrupt

    toy.make = broken
    with pytest.raises(KeyboardInterrupt):
        make_layout("toy_set", tmp_path / "out", media=media)
    assert not (tmp_path / "out").exists()
    toy.make = whole
    made = make_layout("toy_set", tmp_path / "out", media=media)
    assert set(digests(made)) == {"real/a.wav", "fake/b.wav"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_layout_refuses_unknown_names_and_full_folders(toy, tmp_path):
    with pytest.raises(ConfigError, match="did you mean toy_set"):
        make_layout("toyset", tmp_path / "out")
    with pytest.raises(ConfigError, match="one of .*toy_set"):
        make_layout("q", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        make_layout("toy_set", tmp_path / "out")
