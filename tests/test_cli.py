"""The command line as a subprocess."""

import json
import shutil
import time
from html.parser import HTMLParser

import pytest

PREDICT = ("-m", "avdetect", "predict")


@pytest.fixture
def folder(tmp_path, demo_clips):
    shutil.copy(demo_clips[0], tmp_path / "clip.mp4")
    return tmp_path


def test_help_is_quick(tmp_path, run_python):
    run_python("-m", "avdetect", "--help", cwd=tmp_path)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = run_python("-m", "avdetect", "--help", cwd=tmp_path)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0 and "predict" in done.stdout
    # 0.25 s on an idle machine; ten times that would mean that torch is imported
    assert min(times) < 2.0


def test_version(tmp_path, run_python):
    done = run_python("-m", "avdetect", "--version", cwd=tmp_path)
    assert done.stdout.startswith("avdetect ")


def test_text_verdict(folder, smoke_bundle, run_python):
    done = run_python(*PREDICT, "clip.mp4", "--bundle", str(smoke_bundle), cwd=folder)
    assert done.returncode == 0, done.stderr
    for word in ("clip.mp4", "Score", "Face", "Voice", "Lip-sync", "does not detect real deepfakes"):
        assert word in done.stdout or word in " ".join(done.stdout.split())


def test_json_verdict_follows_the_schema(folder, smoke_bundle, run_python):
    from avdetect.inference.verdict import validate

    done = run_python(*PREDICT, "clip.mp4", "--json", "--bundle", str(smoke_bundle), cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    verdict = json.loads(line)
    validate(verdict)
    assert verdict["kind"] == "video" and verdict["faces"] and verdict["segments"]
    assert {"load", "decode", "faces", "encoders"} <= set(verdict["timing_s"])
    assert all(0 <= verdict["modalities"][m]["score"] <= 1 for m in ("visual", "audio", "lipsync"))


def test_bundle_is_found_below_runs(smoke_run, demo_clips, run_python):
    done = run_python(*PREDICT, str(demo_clips[0]), "--json", cwd=smoke_run.parents[2])
    assert done.returncode == 0 and "using the detector in runs" in done.stderr


def test_without_a_bundle_it_says_how_to_get_one(folder, run_python):
    done = run_python(*PREDICT, "clip.mp4", cwd=folder)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "python -m avdetect.recipes.dfdc_fusion" in line


def test_wrong_files_get_a_sentence_each_and_the_good_one_its_verdict(folder, smoke_bundle, run_python):
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "torn.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:3000])
    (folder / "nothing").mkdir()
    names = ["text.mp4", "empty.mp4", "torn.mp4", "absent.mp4", "nothing"]
    done = run_python(*PREDICT, *names, "clip.mp4", "--json", "--bundle", str(smoke_bundle), cwd=folder)
    assert done.returncode == 1
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["clip.mp4"]
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    for name in names:
        assert sum(name in line for line in lines) == 1, (name, lines)
    assert len(lines) == len(names)


def test_usage_errors_exit_with_2(tmp_path, run_python):
    assert run_python(*PREDICT, cwd=tmp_path).returncode == 2
    assert run_python(*PREDICT, "x.mp4", "--frobnicate", cwd=tmp_path).returncode == 2


def test_folders_and_globs(folder, smoke_bundle, run_python):
    (folder / "sub").mkdir()
    shutil.copy(folder / "clip.mp4", folder / "sub" / "other.mp4")
    (folder / "sub" / "notes.txt").write_text("not media")
    done = run_python(*PREDICT, "sub", "*.mp4", "--json", "--bundle", str(smoke_bundle), cwd=folder)
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert done.returncode == 0 and paths == ["sub/other.mp4", "clip.mp4"]


def test_report_is_one_page_without_requests(folder, smoke_bundle, run_python):
    done = run_python(*PREDICT, "clip.mp4", "--report", "out.html", "--bundle", str(smoke_bundle), cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "out.html").read_text()
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            links.extend(value for name, value in attrs if name in ("src", "href") and value)

    Links().feed(page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert page.count("data:image/") >= 3  # face crops with their attention, the spectrogram


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


def test_damaged_bundles_are_named(folder, smoke_bundle, run_python, tmp_path_factory):
    copy = tmp_path_factory.mktemp("bundle") / "b"
    shutil.copytree(smoke_bundle, copy)
    weights = copy / "audio.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    done = run_python(*PREDICT, "clip.mp4", "--bundle", str(copy), cwd=folder)
    assert done.returncode == 1 and "SHA-256 differs" in done.stderr
    weights.unlink()
    done = run_python(*PREDICT, "clip.mp4", "--bundle", str(copy), cwd=folder)
    assert done.returncode == 1 and "lacks audio.safetensors" in done.stderr
    (copy / "card.json").write_text("{")
    done = run_python(*PREDICT, "clip.mp4", "--bundle", str(copy), cwd=folder)
    assert done.returncode == 1 and "not valid JSON" in done.stderr


def test_encoders_lists_names(tmp_path, run_python):
    done = run_python("-m", "avdetect", "encoders", cwd=tmp_path)
    assert "efficientnet_autoatt_b4" in done.stdout and "mel_cnn" in done.stdout and "lipsync" in done.stdout


def test_data_index_and_prepare(smoke_run, tmp_path, run_python):
    demo = next((smoke_run.parents[1] / "data").glob("demo-*"))
    part = sorted(demo.glob("dfdc_train_part_*"))[0]
    done = run_python("-m", "avdetect", "data", "index", "dfdc", str(part), "--out", "m.csv", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "m.csv").exists(), done.stderr
    done = run_python("-m", "avdetect", "data", "index", "nosuch", str(part), cwd=tmp_path)
    assert done.returncode == 1 and "nosuch" in done.stderr and "Traceback" not in done.stderr
    done = run_python("-m", "avdetect", "data", "prepare", "m.csv", "out", "--crop-size", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out" / "clips").glob("*.npz"))
