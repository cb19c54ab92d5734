"""The main recipe as a user runs it, on a small demo set."""

import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from avdetect import Detector
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.pipeline import run_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ("-m", "avdetect.recipes.dfdc_fusion")
# Where the recipe is killed, in this order: a file that must be there, or a line that must have been printed.
KILLS = (
    ("file", "runs/data/**/*.mp4"),  # index: the demo set is being made
    ("file", "runs/data/prepared-*/clips/*.npz"),
    ("line", "visual  epoch 1/"),
    ("line", "audio  epoch 1/"),
    ("line", "lipsync  epoch 1/"),
    ("line", "evidence  train"),
    ("line", "fusion  epoch 1/"),
    ("line", "calibrate  fused"),
    ("line", "evidence  test"),
)


def test_run_folder_is_complete(smoke_run):
    for name in (
        "config.yaml",
        "environment.json",
        "history.jsonl",
        "metrics.json",
        "scores.parquet",
        "manifest.csv",
    ):
        assert (smoke_run / name).stat().st_size > 0, name
    assert {p.name for p in (smoke_run / "tensorboard").iterdir()} == {"visual", "audio", "lipsync", "fusion"}
    plots = {p.name for p in (smoke_run / "plots").glob("*.png")}
    assert {"roc.png", "precision_recall.png", "calibration.png", "score_histogram.png"} <= plots
    history = [json.loads(line) for line in (smoke_run / "history.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in history} == {"visual", "audio", "lipsync", "fusion"}


def test_metrics_say_what_was_selected_on_what(smoke_run):
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    assert metrics["selected_on"] == "validation" and metrics["n_unreadable"] == 0
    assert json.loads((smoke_run / "bundle" / "card.json").read_text())["selected_on"] == "validation"
    assert all(
        metrics["stages"][name]["selected_on"] == "validation" for name in ("visual", "audio", "lipsync")
    )
    assert set(metrics["clips"]) == {"fused", "visual", "audio", "lipsync"}
    auc = metrics["clips"]["fused"]["overall"]["roc_auc"]
    assert auc["low"] <= auc["value"] <= auc["high"]


def test_scores_are_of_the_test_split(smoke_run):
    scores = pd.read_parquet(smoke_run / "scores.parquet")
    manifest = pd.read_csv(smoke_run / "manifest.csv")
    test = manifest[manifest["split"] == "test"]
    assert set(scores["key"]) == set(test["dataset"] + "/" + test["path"])
    assert scores["score"].between(0, 1).all()


def test_subjects_and_sources_stay_on_one_side(smoke_run):
    manifest = pd.read_csv(smoke_run / "manifest.csv")
    for column in ("source", "subject"):
        groups = (
            manifest.assign(g=manifest[column].str.split("+")).explode("g").groupby("g")["split"].nunique()
        )
        assert (groups == 1).all()


@pytest.fixture
def ran(tmp_path, monkeypatch, capsys):
    """The recipe in this process, in a folder of its own: what it said, and whether it ended with an error."""

    def run(*overrides, fails=False, cwd=tmp_path):
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        if fails:
            with pytest.raises(SystemExit) as left:
                run_recipe(compose_recipe("dfdc_fusion", overrides))
            assert left.value.code == 1
        else:
            run_recipe(compose_recipe("dfdc_fusion", overrides))
        return capsys.readouterr().err

    return run


def test_run_again_in_its_folder_does_nothing_twice_and_nothing_else(smoke_run, smoke_overrides, ran):
    before = (smoke_run / "metrics.json").stat().st_mtime_ns
    again = (*smoke_overrides, f"run_dir={smoke_run}")
    assert "visual  done before" in ran(*again, cwd=smoke_run.parents[2])
    assert "another configuration" in ran(*again, "seed=5", fails=True, cwd=smoke_run.parents[2])
    assert (smoke_run / "metrics.json").stat().st_mtime_ns == before


def test_wrong_settings_get_a_sentence_and_exit_with_1(tmp_path, run_python):
    done = run_python(*RECIPE, "stages=[visual]", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the index stage has not run in this folder" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["stages=[index,polish]"], "unknown stage 'polish': choose of"),
        (["modalities=[smell]"], "modalities must name some of"),
        (["data.root=/no/such/folder"], "/no/such/folder"),
    ],
)
def test_wrong_settings_get_a_sentence(ran, overrides, sentence):
    assert sentence in ran(*overrides, fails=True)


def test_one_class_alone_is_refused(smoke_run, ran):
    said = ran(f"data.root={smoke_run / 'manifest.csv'}", 'data.where="label == 1"', fails=True)
    assert "one class alone" in said


@pytest.fixture
def fakes_alone(tmp_path, demo_clips) -> Path:
    """A DFDC part with one fake and the entry of a file that is not there."""
    part = tmp_path / "dfdc" / "dfdc_train_part_0"
    part.mkdir(parents=True)
    shutil.copy(demo_clips[0], part / "aaaaaaaaaa.mp4")
    fake = {"label": "FAKE", "split": "train", "original": "cccccccccc.mp4"}
    (part / "metadata.json").write_text(json.dumps({"aaaaaaaaaa.mp4": fake, "bbbbbbbbbb.mp4": fake}))
    return tmp_path / "dfdc"


def test_a_part_of_fakes_is_indexed_and_prepared_but_not_trained_on(fakes_alone, ran):
    said = ran(f"data.root={fakes_alone}", "stages=[index,prepare]")
    assert "bbbbbbbbbb.mp4" in said and "1 clips: 1 ok" in said
    assert "one class alone" in ran(f"data.root={fakes_alone}", fails=True)


def test_a_part_of_fakes_joined_with_the_demo_set_is_trained_on(fakes_alone, smoke_run, ran, smoke_overrides):
    roots = f"data.root=[{fakes_alone},{smoke_run / 'manifest.csv'}]"
    said = ran(*smoke_overrides, roots, "modalities=[visual]", "stages=[index,prepare,visual]")
    assert "bbbbbbbbbb.mp4" in said and "visual  epoch 1/1" in said


def test_one_modality_alone_makes_a_detector(tmp_path, smoke_run, smoke_overrides, ran, demo_clips):
    """On an existing manifest, with the prepared clips of the first run."""
    ran(
        *smoke_overrides,
        "modalities=[audio]",
        f"data.root={smoke_run / 'manifest.csv'}",
        f"data.work_dir={smoke_run.parents[1] / 'data'}",
    )
    (bundle,) = (tmp_path / "runs").glob("*/*/bundle")
    verdict = Detector.load(bundle).predict(demo_clips[0])
    assert verdict.score is not None
    assert verdict.modalities["visual"].reason == "this detector has no visual encoder"


# Imports what takes seconds, once; then every line of overrides is a process of its own that runs the recipe.
FORKS = """
import os, shlex, sys
from avdetect.recipes import dfdc_fusion, pipeline, stages
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        sys.argv = ["dfdc_fusion", *shlex.split(line)]
        dfdc_fusion.main()
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Killed:
    """Runs of the recipe in a folder, each a process that is killed."""

    def __init__(self, folder: Path):
        self.folder, self.what, self.reached = folder, None, threading.Event()
        self.server = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ended: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._wait, daemon=True).start()

    def _read(self):
        for line in self.server.stderr:
            if self.what is not None and line.startswith(self.what):
                self.reached.set()

    def _wait(self):
        for line in self.server.stdout:
            self.ended.put(line)

    def start_and_kill(self, overrides, kind: str, what: str) -> None:
        self.what = what if kind == "line" else None
        self.reached.clear()
        self.server.stdin.write(shlex.join(overrides) + "\n")
        self.server.stdin.flush()
        pid = int(self.ended.get(timeout=120))
        while not self.reached.wait(0.02):
            assert self.ended.empty(), f"the recipe ended before {what}"
            if kind == "file" and len(list(self.folder.glob(what))) >= 3:
                break
        os.killpg(pid, signal.SIGKILL)
        assert int(self.ended.get(timeout=60)) == -signal.SIGKILL

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)


def test_killed_in_every_stage_ends_with_the_same_metrics(tmp_path, smoke_run, smoke_overrides, run_python):
    runs = Killed(tmp_path)
    try:
        for kind, what in KILLS:
            runs.start_and_kill(smoke_overrides, kind, what)
    finally:
        runs.close()
    done = run_python(*RECIPE, *smoke_overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "dfdc_fusion").iterdir()
    killed, whole = (json.loads((r / "metrics.json").read_text()) for r in (run, smoke_run))
    assert killed == whole
    scores = [pd.read_parquet(r / "scores.parquet") for r in (run, smoke_run)]
    pd.testing.assert_frame_equal(*scores)


@pytest.mark.slow
def test_two_processes_train_together(tmp_path, smoke_overrides):
    """Two real processes on the CPU: one run folder, every stage once."""
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [sys.executable, *launch, *RECIPE, *smoke_overrides],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "dfdc_fusion").iterdir()
    assert json.loads((run / "metrics.json").read_text())["n_clips"] == 6
    assert done.stderr.count("visual  epoch 1/1") == 1
