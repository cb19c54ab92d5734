"""The command line, mostly as a subprocess."""

import json
import resource
import shutil
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from avdetect import cli
from avdetect.inference.verdict import validate

PREDICT = ("-m", "avdetect", "predict")
BAD = ["text.mp4", "empty.mp4", "torn.mp4", "absent.mp4", "nothing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_clips):
    """Two good clips among files that are none."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "sub").mkdir()
    (folder / "nothing").mkdir()
    shutil.copy(demo_clips[0], folder / "clip.mp4")
    shutil.copy(demo_clips[1], folder / "sub" / "other.mp4")
    (folder / "sub" / "notes.txt").write_text("not media")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "torn.mp4").write_bytes(demo_clips[0].read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def judged(folder, smoke_bundle, run_python):
    """One call with everything: wrong files, a folder, a glob, JSON and a report."""
    done = run_python(
        *PREDICT,
        *BAD,
        "sub",
        "clip*.mp4",
        "--json",
        "--report",
        "out.html",
        "--bundle",
        str(smoke_bundle),
        cwd=folder,
    )
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    return SimpleNamespace(done=done, verdicts=verdicts, page=(folder / "out.html").read_text())


def test_help_is_quick(tmp_path, run_python):
    used = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python("-m", "avdetect", "--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and "predict" in done.stdout
    # 0.12 s of computing on an idle machine; the bound leaves room for a busy one and none for importing torch
    assert min(used) < 0.5


def test_version(tmp_path, run_python):
    assert run_python("-m", "avdetect", "--version", cwd=tmp_path).stdout.startswith("avdetect ")


def test_folders_and_globs_are_expanded(judged):
    assert [verdict["path"] for verdict in judged.verdicts] == ["sub/other.mp4", "clip.mp4"]


def test_wrong_files_get_one_sentence_each(judged):
    assert judged.done.returncode == 1 and "Traceback" not in judged.done.stderr
    lines = judged.done.stderr.splitlines()
    for name in BAD:
        assert sum(name in line for line in lines) == 1, (name, lines)
    assert len(lines) == len(BAD)


def test_json_follows_the_schema(judged):
    for verdict in judged.verdicts:
        validate(verdict)
        assert verdict["kind"] == "video" and verdict["faces"] and len(verdict["segments"]) >= 2
        assert {"load", "decode", "faces", "encoders"} <= set(verdict["timing_s"])
        assert all(0 <= verdict["modalities"][m]["score"] <= 1 for m in ("visual", "audio", "lipsync"))


def test_report_is_one_page_without_requests(judged):
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            links.extend(value for name, value in attrs if name in ("src", "href") and value)

    Links().feed(judged.page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert judged.page.count("data:image/") >= 6  # of both clips: crops, attention, spectrogram


def test_text_verdict_of_the_latest_detector_below_runs(smoke_run, demo_clips, run_python):
    done = run_python(*PREDICT, str(demo_clips[0]), "--bundle", "latest", cwd=smoke_run.parents[2])
    assert done.returncode == 0 and "using the detector in runs" in done.stderr
    text = " ".join(done.stdout.split())
    for words in (
        "Score",
        "Face",
        "Voice",
        "Lip-sync",
        "does not detect real deepfakes",
        "licence of its weights",
    ):
        assert words in text


def test_a_detector_that_is_not_there_gets_a_sentence(folder, run_python):
    done = run_python(*PREDICT, "clip.mp4", "--bundle", "latest", cwd=folder)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "python -m avdetect.recipes.dfdc_fusion" in line


def test_usage_errors_exit_with_2(tmp_path, run_python):
    assert run_python(*PREDICT, cwd=tmp_path).returncode == 2
    assert run_python(*PREDICT, "x.mp4", "--frobnicate", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("evaluate --data m.csv --split dev", "unknown split 'dev'"),
        ("evaluate --scores s.txt --data m.csv --trim-silence", "with --scores no media are read"),
        ("evaluate --scores s.txt --data m.csv --layout csv", "unknown layout of score files 'csv'"),
        ("robustness --data m.csv --out o --degrade fog", "unknown degradation 'fog'"),
        ("robustness --data m.csv --out o --degrade h264:much", "strengths are numbers"),
        ("embeddings --data m.csv --out o --modality smell", "this detector has no encoder 'smell'"),
        ("embeddings --data m.csv --out o --method umap", "'umap' is not one of"),
        ("data index nosuch .", "nosuch"),
        ("encoders mel_cn", "did you mean mel_cnn"),
        ("tune nosuch", "nosuch"),
    ],
)
def test_values_that_an_option_does_not_have_are_usage_errors(
    arguments, sentence, tmp_path, monkeypatch, capfd
):
    """The whole program in this process: what it does with an error is what `main` adds to the commands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("path,label,split\na.mp4,1,test\n")
    (tmp_path / "s.txt").write_text("a.mp4;0.5\n")
    monkeypatch.setattr(sys, "argv", ["avdetect", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, said = capfd.readouterr()
    assert stopped.value.code == 2 and out == "" and sentence in said, said


def test_a_report_that_cannot_be_written_is_said_after_the_verdict(folder, smoke_bundle, run_python):
    done = run_python(
        *PREDICT,
        "clip.mp4",
        "--json",
        "--report",
        "no/such/out.html",
        "--bundle",
        str(smoke_bundle),
        cwd=folder,
    )
    assert done.returncode == 1 and json.loads(done.stdout)["path"] == "clip.mp4"
    assert "no/such/out.html" in done.stderr and "Traceback" not in done.stderr


def test_encoders_lists_names(tmp_path, run_python):
    done = run_python("-m", "avdetect", "encoders", cwd=tmp_path)
    assert "efficientnet_autoatt_b4" in done.stdout and "mel_cnn" in done.stdout and "lipsync" in done.stdout


def test_data_index_and_prepare(smoke_run, tmp_path, run_python):
    demo = next((smoke_run.parents[1] / "data").glob("demo-*"))
    part = sorted(demo.glob("dfdc_train_part_*"))[-1]
    done = run_python("-m", "avdetect", "data", "index", "dfdc", str(part), "--out", "m.csv", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "m.csv").exists(), done.stderr
    done = run_python("-m", "avdetect", "data", "index", "nosuch", str(part), cwd=tmp_path)
    assert done.returncode == 2 and "nosuch" in done.stderr and "Traceback" not in done.stderr
    done = run_python("-m", "avdetect", "data", "prepare", "m.csv", "out", "--crop-size", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out" / "clips").glob("*.npz"))


def test_a_folder_that_cannot_be_written_gets_a_sentence(tmp_path, run_python):
    (tmp_path / "m.csv").write_text("path,label\na.mp4,1\n")
    (tmp_path / "s.txt").write_text("a.mp4;0.5\n")
    command = ("-m", "avdetect", "evaluate", "--scores", "s.txt", "--data", "m.csv", "--out", "s.txt")
    done = run_python(*command, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().endswith("s.txt: File exists: mend that, or name another place")
