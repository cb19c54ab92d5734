"""`avdetect embeddings` on voices, with a detector of random weights, and its page in a browser-less reading."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from avdetect import cli
from avdetect.data import Manifest
from avdetect.data.guard import open_test_data
from avdetect.errors import ConfigError, DataError
from avdetect.scan.embeddings import map_embeddings
from avdetect.scan.embeddings_page import TEMPLATES, render_embeddings_page
from avdetect.scan.point_media import HEARD_S, face_uri, sound_uri

COUNT = 12


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, write_voices):
    """Voices of the split val, two of another sex, and one in the test split."""
    path = write_voices(tmp_path_factory.mktemp("maps") / "set", "Voices </script>", 3, COUNT)
    table = Manifest.read(path).table.assign(split="val")
    table["gender"] = ["female", "male", None] * (len(table) // 3) + [None] * (len(table) % 3)
    table.loc[0, ["split", "source"]] = "test", "another"
    Manifest(table, name="Voices").write(path)
    return path


@pytest.fixture(scope="module")
def ran(quiet, voice_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("map")
    done = CliRunner().invoke(
        cli.app,
        ["embeddings", str(voice_bundle), "--data", str(quiet), "--out", str(out), "--workers", "0",
         "--by", "label, method,gender,race"],
    )  # fmt: skip
    return SimpleNamespace(out=out, done=done, page=(out / "embeddings.html").read_text())


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.inside = [], {"script": [], "style": []}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in self.texts else None
        if self.inside:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside][-1] += data


def test_a_row_a_clip_with_place_score_and_groups(ran):
    assert ran.done.exit_code == 1, ran.done.exception  # one clip is unreadable, one is missing
    table = pd.read_parquet(ran.out / "embeddings.parquet")
    assert len(table) == COUNT - 1 and set(table["modality"]) == {"audio"}  # without the test clip
    assert table["key"].is_unique and {"label", "method", "gender"} <= set(table)
    places = table[["pca_x", "pca_y", "tsne_x", "tsne_y"]].to_numpy(float)
    assert np.isfinite(places).all() and (places.std(axis=0) > 0).all()
    assert table["score"].between(0, 1).all() and (table["score"] == table["modality_score"]).all()
    names = {path.name for path in (ran.out / "plots").iterdir()}
    assert names == {f"embeddings_audio_{column}.png" for column in ("label", "method", "gender")}
    assert "audio: 11 clips; PCA: " in ran.done.stdout and "t-SNE, perplexity 3" in ran.done.stdout
    assert "no clip has a value of race" in ran.done.stderr


def test_the_page_asks_for_nothing_and_lets_in_its_own_script_alone(ran):
    page = Page(ran.page)
    for tag, attributes in page.tags:
        assert not any(name == "style" or name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "unsafe" not in policy
    data, script = page.texts["script"]
    for source, text in (("script-src", script), ("style-src", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[source] == f"'sha256-{digest}'"
    assert "://" not in script.replace("http://www.w3.org/2000/svg", "") and not re.search(
        r"url\((?!#)", ran.page
    )
    assert json.loads(data)["maps"][0]["points"][0]["key"].startswith("Voices </script>/")
    assert ran.page.count("data:image/png") == 3  # for those without scripts


def test_behind_each_point_stand_its_sound_label_and_scores(ran):
    data = json.loads(Page(ran.page).texts["script"][0])
    (one,) = data["maps"]
    table = pd.read_parquet(ran.out / "embeddings.parquet")
    assert [point["key"] for point in one["points"]] == table["key"].tolist()
    assert [point["own"] for point in one["points"]] == table["modality_score"].round(4).tolist()
    assert all(point["face"] is None for point in one["points"])
    assert {point["label"] for point in one["points"]} == {"genuine", "fake"}
    sounds = [data["media"][point["sound"]] for point in one["points"]]
    assert len(set(sounds)) == len(sounds) and all(uri.startswith("data:audio/mpeg") for uri in sounds)
    for groups in one["groups"].values():
        assert sorted(index for group in groups for index in group["of"]) == list(range(len(table)))
    assert {g["name"] for g in one["groups"]["gender"]} == {"female", "male", "gender not known"}
    for projection in one["projections"].values():
        assert (np.array(projection["at"]) >= 0).all() and (np.array(projection["at"]) <= 1).all()


def test_a_second_run_judges_nothing_again(ran, quiet, voice_bundle, monkeypatch):
    before = (ran.out / "journal.jsonl").read_text()
    monkeypatch.setattr("avdetect.data.prepare.save_clip", lambda *_: pytest.fail("prepared again"))
    found = map_embeddings(voice_bundle, quiet, ran.out, by=["label"], methods=["pca"], workers=0, limit=10)
    added = (ran.out / "journal.jsonl").read_text().removeprefix(before).splitlines()
    assert all("bad.wav" in line for line in added)  # what cannot be read is tried again
    assert list(found.maps[0].projections) == ["pca"] and any(
        "10 of 13 clips" in t for t in found.set.warnings
    )


def test_test_clips_stay_closed_unless_they_are_opened(quiet, voice_bundle, tmp_path):
    for split in ("test", "all"):
        with pytest.raises(DataError, match="the test split was asked for"):
            map_embeddings(voice_bundle, quiet, tmp_path / "out", split, workers=0)
    with open_test_data(), pytest.raises(DataError, match="the audio encoder judged 1 clips"):
        map_embeddings(voice_bundle, quiet, tmp_path / "out", "test", workers=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"modalities": ["visual"]}, "this detector has no encoder 'visual': choose of audio"),
        ({"limit": 0}, "a map of 0 clips was asked for"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_wrong_options_get_a_sentence(quiet, voice_bundle, tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        map_embeddings(voice_bundle, quiet, tmp_path / "out", workers=0, **options)


def test_a_sound_is_heard_after_its_silence_at_an_even_loudness():
    t = np.arange(5 * 16000) / 16000
    quiet = np.concatenate([np.zeros(16000), 0.01 * np.sin(2 * np.pi * 440 * t)]).astype(np.float32)
    coded = base64.b64decode(sound_uri(quiet, 16000).removeprefix("data:audio/mpeg;base64,"))
    with av.open(io.BytesIO(coded)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(heard) / 16000 == pytest.approx(HEARD_S, abs=0.15) and len(coded) < 20_000
    assert np.abs(heard[4000:-4000]).max() == pytest.approx(0.89, abs=0.05)
    assert np.argmax(np.abs(np.fft.rfft(heard[8000:24000]))) == pytest.approx(440, abs=2)
    sound_uri(np.zeros(800, np.float32), 16000)  # silence is a sound too


def test_a_face_is_the_crop_in_the_middle():
    crops = np.zeros((3, 224, 224, 3), np.uint8)
    crops[1, ..., 0] = 200
    uri = face_uri(SimpleNamespace(crops=crops))
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (128, 128) and np.abs(np.asarray(image).mean((0, 1)) - [200, 0, 0]).max() < 5


def test_marks_stand_out_from_the_page_in_the_light_and_in_the_dark():
    """Contrast of 3 to 1 at least with what lies behind them, WCAG 2.1, 1.4.11."""
    both = re.findall(r"--m\d: (#\w{6})", (TEMPLATES / "embeddings.css").read_text())
    from avdetect import report

    shared = (TEMPLATES.parents[1] / "report" / "templates" / "report.css").read_text()
    assert report and len(both) == 20
    for marks, behind in zip(
        (both[:10], both[10:]), re.findall(r"--lane: (#\w{6})", shared)[:2], strict=True
    ):
        for colour in marks:
            light, dark = sorted((_luminance(colour), _luminance(behind)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, colour


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_an_audio_visual_clip_shows_the_face_that_was_judged(smoke_run, tmp_path):
    found = map_embeddings(
        smoke_run / "bundle", smoke_run / "manifest.csv", tmp_path, "train", workers=0, limit=9
    )
    by_name = {one.modality: one for one in found.maps}
    assert set(by_name) == {"visual", "audio", "lipsync"}
    assert all(by_name["visual"].faces) and not any(by_name["visual"].sounds)
    assert (
        all(by_name["lipsync"].faces) and all(by_name["lipsync"].sounds) and not any(by_name["audio"].faces)
    )
    page = render_embeddings_page(found)
    media = json.loads(Page(page).texts["script"][0])["media"]
    assert len(media) == len({*by_name["visual"].faces, *by_name["lipsync"].faces, *by_name["audio"].sounds})
