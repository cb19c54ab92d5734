"""The report of `genuine_only`: the whole of it on a small set that is made here, and its command."""

import json
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from avdetect.data.demo.clips import Recording, write_mp4
from avdetect.data.guard import check_split
from avdetect.data.prepare import prepare
from avdetect.errors import ConfigError, DataError
from avdetect.inference import Detector, load_bundle
from avdetect.media import ClipSettings
from avdetect.media.tracks import Detections
from avdetect.recipes.genuine import engine, figures, lips
from avdetect.recipes.genuine.context import row
from avdetect.recipes.genuine.curves import plot_runs, read_run
from avdetect.recipes.genuine.material import read_material
from avdetect.recipes.genuine.table import markdown
from avdetect.recipes.genuine_report import Settings, main, make_report, settings_of, speed_rows

SIDE = 64


class WholePicture:
    """Finds one face: the middle of every picture."""

    def detect(self, images, min_face_px):
        height, width = images[0].shape[:2]
        box = np.float32([[0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height]])
        points = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]], np.float32)
        marks = (points * np.float32([width, height]))[None]
        return [Detections(box, np.ones(1, np.float32), marks) for _ in images]


# -- a small set ----------------------------------------------------------------------------------------------


def write_video(path, rng):
    coarse = np.repeat(rng.integers(60, 200, (1, 8, 8, 3), dtype=np.uint8), 30, axis=0)
    coarse[:, 5, 3:5] = rng.integers(0, 255, (30, 2, 3))  # only the mouth moves: no cut is seen
    frames = (np.asarray(Image.fromarray(one).resize((96, 96))) for one in coarse)
    sound = 0.1 * rng.standard_normal(round(1.2 * 16000)) * np.linspace(0.3, 1.0, round(1.2 * 16000))
    write_mp4(path, frames, sound, Recording(30, Fraction(25), 16000, -24.0, 23))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two corpora of talking heads, face crops, and voices; only `News` has a train split."""
    folder, rng, rows = tmp_path_factory.mktemp("data"), np.random.default_rng(0), []

    def add(name, dataset, source, label, **more):
        rows.append(
            {"path": name, "dataset": dataset, "source": source, "label": label, "split": "val"} | more
        )

    for number in range(12):
        name = f"talk{number}.mp4"
        write_video(folder / name, rng)
        corpus = "News" if number < 6 else "Street"
        subject = f"{corpus}{number % 2}"
        add(name, corpus, name, 0, visual_label=0, audio_label=0, subject=subject)
    add("talk0.mp4", "News", "elsewhere", 0, split="train")
    rows[-1]["path"] = "learnt.mp4"  # a train row need not be there
    for number in range(6):
        for fake in (0, 1):
            name = f"crop{number}_{fake}.png"
            Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name)
            method = "swap" if fake else None
            add(name, "Crops", f"crop{number}", fake, visual_label=fake, method=method)
            name = f"voice{number}_{fake}.wav"
            soundfile.write(folder / name, 0.1 * rng.standard_normal(16000), 16000)
            method = "vocoder" if fake else None
            add(name, "Voices", f"voice{number}", fake, audio_label=fake, method=method)
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def no_mtcnn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "avdetect.recipes.genuine.material.prepare", partial(prepare, detector_factory=WholePicture)
        )
        yield


@pytest.fixture(scope="module")
def asked(data, genuine_bundle, tmp_path_factory, no_mtcnn):
    given = [
        f"data.root={data}", f"bundle={genuine_bundle}", f"out={tmp_path_factory.mktemp('report')}",
        "workers=0", "items=6", "data.face_crops=[Crops]", "data.swaps=[Crops]",
    ]  # fmt: skip
    return settings_of(given)


@pytest.fixture(scope="module")
def report(asked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "RESAMPLES", 40)  # hundreds of figures
        yield make_report(asked)


def rows_of(report, title):
    return {one["measure"]: one for one in report["parts"][title]}


def test_every_part_of_the_table_is_measured(report, asked):
    measured = {title: len(rows) for title, rows in report["parts"].items() if rows}
    assert set(measured) == {
        "Lip-sync", "Voice", "Face: labelled sources", "Face: pseudo-fakes", "Fusion", "Verdicts", "Calibration",
    }  # fmt: skip
    written = json.loads((Path(asked.out) / "report.json").read_text())
    assert written["parts"] == json.loads(json.dumps(report["parts"]))
    assert (
        "| face AUC, Crops: swap against its own genuine | >= 0.9 |"
        in (Path(asked.out) / "report.md").read_text()
    )


def test_figures_are_of_what_the_detector_says_of_the_files(report, asked, genuine_bundle, data):
    clips = pd.read_parquet(Path(asked.out) / "clips.parquet").set_index("path")
    assert len(clips) == report["about"]["clips"] == 36
    detector = Detector(load_bundle(genuine_bundle), WholePicture())
    verdict = detector.predict(data.parent / "talk7.mp4")
    one = clips.loc["talk7.mp4"]
    assert one["said"] == verdict.label and one["score"] == pytest.approx(verdict.score, abs=1e-6)
    assert one["lipsync"] == pytest.approx(verdict.modalities["lipsync"].score, abs=1e-6)
    crops = clips[clips["dataset"] == "Crops"]
    figure = rows_of(report, "Face: labelled sources")["face AUC, Crops: swap against its own genuine"][
        "figure"
    ]
    above = [
        f > g
        for f in crops[crops["label"] == 1]["visual_logit"]
        for g in crops[crops["label"] == 0]["visual_logit"]
    ]
    assert figure["value"] == pytest.approx(np.mean(above)) and figure["n_groups"] == 6
    genuine = clips[clips["label"] == 0]
    assert rows_of(report, "Verdicts")["genuine clips called fake"]["figure"]["value"] == pytest.approx(
        (genuine["said"] == "fake").mean()
    )


def test_corpora_with_and_without_a_train_split_are_kept_apart(report):
    lipsync = rows_of(report, "Lip-sync")
    never = "lip-sync AUC, in step against sound shifted by 200 ms or more, corpora never seen"
    assert lipsync[never]["figure"]["n"] == 6 * (1 + lips.OUT_SHIFTS) and list(lipsync[never]["by"]) == [
        "Street"
    ]
    single = lipsync["lip-sync offset within ±1 frame (40 ms), speakers never seen, single clips"]
    assert single["figure"]["n"] == 6 * (1 + lips.SHIFTS) and set(single["by_subject"]) == {"News0", "News1"}
    pseudo = rows_of(report, "Face: pseudo-fakes")
    assert list(pseudo) == ["face AUC, pseudo-fakes of people never seen, News, mean over kinds"]


def test_fusion_compares_with_the_best_single_modality(report):
    rows = report["parts"]["Fusion"]
    assert {one["measure"].rsplit(", ", 1)[1] for one in rows} == {
        "face manipulated", "voice manipulated", "lips manipulated", "face and voice manipulated",
    }  # fmt: skip
    for one in rows:
        assert one["errors"] == []
        best = max(figure["value"] for figure in one["single"].values())
        assert one["figure"]["value"] == pytest.approx(one["fused"]["value"] - best)
        assert one["met"] == (one["figure"]["value"] >= 0)


def test_a_second_report_judges_nothing_again(report, asked, monkeypatch):
    monkeypatch.setattr(engine, "run_in_workers", lambda tasks, *_: iter([] if not list(tasks) else [1 / 0]))
    again = make_report(asked)
    assert again["parts"] == report["parts"]


def test_the_test_split_is_open_while_it_is_measured_and_no_longer(data, asked, tmp_path, monkeypatch):
    table = pd.read_csv(data).assign(split="test")
    table["root"] = str(data.parent)
    table[table["dataset"] == "Voices"].to_csv(tmp_path / "manifest.csv", index=False)
    given = {"parts": ["voice", "labels"], "split": "test", "out": str(tmp_path / "out")}
    settings = replace(asked, **given, data=replace(asked.data, root=str(tmp_path / "manifest.csv")))
    found = make_report(settings)
    assert found["about"]["split"] == "test" and found["about"]["clips"] == 12
    with pytest.raises(DataError, match="test split was asked for"):
        check_split(["test"])
    with pytest.raises(DataError, match="test split was asked for"):
        read_material(settings.data.root, None, "test", [], ClipSettings(), [], tmp_path / "p", 0, print)


def test_prepared_clips_are_read_where_settings_and_files_are_the_same(data, asked, tmp_path):
    said = []
    clip = ClipSettings(crop_size=SIDE)
    where = "dataset == 'Voices'"
    first = read_material(data, where, "val", [], clip, [], tmp_path / "one", 0, said.append)
    prepared = tmp_path / "one" / "media"
    again = read_material(data, where, "val", [], clip, [prepared], tmp_path / "two", 0, said.append)
    assert not (tmp_path / "two").exists() and list(again.table["file"]) == list(first.table["file"])
    other = replace(clip, crop_size=32)
    new = read_material(data, where, "val", [], other, [prepared], tmp_path / "three", 0, said.append)
    assert "other settings" in " ".join(said) and new.table["file"].str.contains("three").all()
    with pytest.raises(ConfigError, match="unknown split"):
        read_material(data, None, "all", [], clip, [], tmp_path, 0, print)
    with pytest.raises(DataError, match="no clip in the split"):
        read_material(data, "dataset == 'Nothing'", "val", [], clip, [], tmp_path, 0, print)


# -- the command ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["bundle=x", "out=y"], "data.root has no value"),
        (["nonsense"], "write key=value"),
        (["data.root=x", "bundle=x", "out=y", "colour=red"], "a setting is wrong"),
        (["data.root=x", "bundle=x", "out=y", "items=many"], "a setting is wrong"),
        (["data.root=x", "bundle=x", "out=y", "parts=[ears]"], "unknown part 'ears'"),
    ],
)
def test_wrong_settings_get_a_sentence(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_of(given)


def test_settings_are_those_given():
    settings = settings_of(["data.root=a", "bundle=b", "out=c", "prepared=[x,y]", "items=7"])
    assert isinstance(settings, Settings) and settings.prepared == ["x", "y"] and settings.items == 7


def test_an_error_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as left:
        main(["data.root=nowhere.csv", "bundle=nowhere", "out=x"])
    said = capsys.readouterr()
    assert left.value.code == 1 and said.err.count("\n") == 1 and said.err.startswith("genuine_report: ")


def test_the_speed_is_taken_from_the_benchmark(tmp_path):
    told = {
        "before_s": 2.0,
        "after_s": 1.5,
        "ratio": {"value": 0.75, "low": 0.7, "high": 0.8},
        "rounds": 9,
        "threads": 2,
    }
    (tmp_path / "speed.json").write_text(json.dumps(told))
    (line,) = speed_rows(tmp_path / "speed.json")
    assert line["met"] and line["figure"]["value"] == 0.75 and "1.50 s against 2.00 s" in line["beside"]
    (tmp_path / "speed.json").write_text("{}")
    with pytest.raises(ConfigError, match="verdict_speed.py"):
        speed_rows(tmp_path / "speed.json")


def test_learning_curves_are_read_from_runs(tmp_path):
    run = tmp_path / "small"
    (run / "stages").mkdir(parents=True)
    lines = [{"stage": "visual", "epoch": n, "val/auc": value} for n, value in ((1, 0.6), (2, 0.8), (3, 0.7))]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "stages" / "visual.json").write_text('{"parameters": 1234}')
    pd.DataFrame({"kind": ["image", "audio", "video"], "split": ["train", "train", "val"]}).to_csv(
        run / "manifest.csv"
    )
    found = read_run(run, "visual")
    assert (found["best"], found["best_epoch"], found["parameters"], found["train_clips"]) == (
        0.8,
        2,
        1234,
        1,
    )
    with Image.open(
        plot_runs([found, found | {"parameters": None}], tmp_path / "p.png", "curves")
    ) as picture:
        assert picture.width > 1000
    with pytest.raises(DataError, match="no epoch of audio"):
        read_run(run, "audio")


def test_the_table_is_markdown_whatever_is_in_it():
    about = {
        "split": "val",
        "bundle": "b",
        "sha256": "0" * 64,
        "clips": 2,
        "failed": 0,
        "resamples": 10,
        "seed": 0,
    }
    lines = [
        row("a | b", figures.share([1, 0], [1, 2]), (">=", 0.8), "x\ny"),
        row("c", figures.no_figure("no such clip")),
    ]
    text = markdown({"about": about, "parts": {"Part": lines, "Empty": []}, "notes": ["lost"]})
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[2] == "| a / b | >= 0.8 | 0.500 [0.000, 1.000] | 2 (2) | no | x y |"
    assert table[3] == "| c |  | not measured (no such clip) | 0 |  |  |" and "Empty" not in text
    assert text.endswith("- lost\n")
