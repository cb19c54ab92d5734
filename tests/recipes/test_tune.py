"""`avdetect tune`: on a scripted training, where it is known what must come out, and on the demo set."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from torch import nn
from torch.utils.data import DataLoader

from avdetect.errors import ConfigError
from avdetect.recipes import CONFIG_DIR, tune
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.run_folder import RunFolder
from avdetect.training import FitSettings, fit
from avdetect.training.history import History

ROOT = Path(__file__).resolve().parents[2]
SPACE = {
    "train.visual.fit.lr": {"log": [1e-5, 1e-1]},
    "train.visual.batch": {"choice": [4, 8]},
    "train.visual.augment.rotation": {"float": [0, 10]},  # not in the recipe's configuration: added
}
EPOCHS = 4


class Scripted:
    """Validation gains more the nearer the rate is to 1e-3, from the first epoch on."""

    name = "visual"

    def __init__(self, config, die_in_epoch=None):
        train = config["train"]["visual"]
        self.off = (
            abs(torch.log10(torch.tensor(train["fit"]["lr"] / 1e-3)).item())
            + train["augment"]["rotation"] / 100
        )
        self.die_in_epoch, self.epoch, self.trained = die_in_epoch, 0, 0
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.train_loader = self.val_loader = DataLoader([torch.ones(1)] * 2, batch_size=2)

    def set_epoch(self, epoch):
        if epoch == self.die_in_epoch:
            raise KeyboardInterrupt
        self.epoch, self.trained = epoch, self.trained + 1

    def step(self, model, batch):
        return {"loss": model(batch).mean()}

    def predict(self, model, batch):
        return {"logit": model(batch).squeeze(1), "clip": torch.arange(len(batch))}

    def metrics(self, outputs):
        return {"loss": 1.0, "auc": round(1 - self.off / 10 - 0.5 / (self.epoch + 1), 4)}


class FakeRecipe:
    """Stands in for `run_recipe`: the real loop on a scripted task, the real run folder."""

    def __init__(self, die=None, fail=()):
        self.die, self.fail, self.configs, self.trained = die, fail, [], {}

    def __call__(self, config):
        folder = Path(config["run_dir"])
        self.configs.append(config)
        if "visual" not in config["stages"]:
            return
        if folder.name in self.fail:
            sys.exit(1)
        run = RunFolder(folder)
        task = Scripted(config, self.die[1] if self.die and self.die[0] == folder.name else None)
        settings = FitSettings(epochs=EPOCHS, lr=0.1, monitor="auc", warmup=1, precision="no")
        try:
            result = fit(
                task,
                settings,
                run.checkpoints("visual"),
                History(folder / "history.jsonl"),
                lambda line: None,
            )
        finally:
            self.trained[folder.name] = task.trained
        run.finish("visual", {"validation": result.metrics})


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Run a study with a fake recipe; gives what was printed and the table of trials."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "WHOLE_TRIALS", 2)
    gc.freeze()  # else every trial searches all of torch for garbage

    def run(
        fake, trials, name="study", overrides=("seed=3", "train.visual.fit.monitor=auc"), space="space.yaml"
    ):
        monkeypatch.setattr(tune, "run_recipe", fake)
        text = tune.tune_recipe(
            "dfdc_visual", overrides, trials, tmp_path / f"{name}.db", str(tmp_path / space)
        )
        return text, pd.read_csv(tmp_path / name / "trials.csv")

    yield run
    gc.unfreeze()


def test_finds_the_best_and_stops_what_is_worse_than_the_median(search, tmp_path):
    fake = FakeRecipe()
    text, table = search(fake, 7)
    assert list(table["trial"]) == list(range(7)) and set(table["state"]) == {"complete", "pruned"}
    assert (table["state"][: tune.WHOLE_TRIALS] == "complete").all()
    stopped, whole = (table[table["state"] == state] for state in ("pruned", "complete"))
    assert (stopped["epochs"] == tune.FREE_EPOCHS + 1).all() and (whole["epochs"] == EPOCHS).all()
    off = (table["train.visual.fit.lr"].map(lambda lr: abs(torch.log10(torch.tensor(lr / 1e-3)).item()))
           + table["train.visual.augment.rotation"] / 100)  # fmt: skip
    expected = (1 - off / 10 - 0.5 / EPOCHS).round(4)
    assert whole["auc"].to_numpy() == pytest.approx(expected[whole.index].to_numpy(), abs=1e-4)
    best = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text())
    assert best["train"]["visual"]["fit"]["lr"] == whole.loc[whole["auc"].idxmax(), "train.visual.fit.lr"]
    assert f"best on validation: auc {whole['auc'].max():.4f}" in text and "--config-name best" in text
    assert "  train.visual.batch=" in text and "  +train.visual.augment.rotation=" in text
    # each trial in a folder of its own, and never on the test split
    assert [config["stages"] for config in fake.configs] == [["index", "prepare"]] + 7 * [
        ["index", "prepare", "visual"]
    ]
    assert len({config["run_dir"] for config in fake.configs}) == 8


def test_killed_and_started_again_it_ends_as_if_it_had_not_been(search):
    _, whole = search(FakeRecipe(), 4, "whole")
    killed = FakeRecipe(die=("trial-0001", 2))
    with pytest.raises(KeyboardInterrupt):
        search(killed, 4, "killed")
    assert killed.trained["trial-0001"] == 2
    again = FakeRecipe(die=("trial-0003", 1))
    with pytest.raises(KeyboardInterrupt):
        search(again, 4, "killed")
    assert (
        again.trained["trial-0001"] == EPOCHS - 2 and "trial-0000" not in again.trained
    )  # continued, not redone
    text, table = search(FakeRecipe(), 4, "killed")
    pd.testing.assert_frame_equal(table, whole)


def test_more_trials_continue_a_study_and_no_more_do_nothing(search):
    search(FakeRecipe(), 1)
    fake = FakeRecipe()
    search(fake, 1)
    assert not fake.configs
    _, table = search(fake, 2)
    assert len(table) == 2 and list(fake.trained) == ["trial-0001"]


def test_a_trial_that_fails_does_not_end_the_study(search):
    _, table = search(FakeRecipe(fail=("trial-0001",)), 3)
    assert list(table["state"]) == ["complete", "fail", "complete"]
    with pytest.raises(ConfigError, match="no trial of .*sad.db came to its end"):
        search(FakeRecipe(fail=("trial-0000", "trial-0001")), 2, "sad")


def test_the_best_is_what_the_recipe_takes(search, tmp_path, run_python):
    overrides = ("seed=3", "train.visual.fit.monitor=auc", "encoder/visual=mobilenetv3_small")
    text, table = search(FakeRecipe(), 2, overrides=overrides)
    command = text.splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "avdetect.recipes.dfdc_visual"] and "seed=3" in command
    done = run_python(*command[1:], "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    best = table.loc[table["auc"].idxmax()]
    assert config["encoder"]["visual"]["name"] == "mobilenetv3_small" and config["name"] == "dfdc_visual"
    assert config["seed"] == 3 and config["train"]["visual"]["batch"] == best["train.visual.batch"]
    assert float(config["train"]["visual"]["fit"]["lr"]) == best["train.visual.fit.lr"]
    assert config["train"]["visual"]["augment"]["rotation"] == best["train.visual.augment.rotation"]


def test_a_study_is_of_one_thing_and_of_one_process(search, tmp_path):
    search(FakeRecipe(), 1)
    with pytest.raises(ConfigError, match="study of other settings"):
        search(FakeRecipe(), 2, overrides=("seed=4", "train.visual.fit.monitor=auc"))
    with (
        FileLock(tmp_path / "study.db.lock"),
        pytest.raises(ConfigError, match="another process works on the study"),
    ):
        search(FakeRecipe(), 2)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({}, "names no setting"),
        ({"train.visual.batch": 8}, "must be one of log, float, int, choice"),
        ({"train.visual.batch": {"choice": [8], "int": [1, 2]}}, "must be one of"),
        ({"train.visual.batch": {"choice": [[8]]}}, "choice needs a list of numbers, words"),
        ({"train.visual.fit.lr": {"log": [0, 1]}}, "log needs ends above 0"),
        ({"train.visual.fit.lr": {"float": [1, 0]}}, "float needs the two ends"),
        ({"train.visual.batch": {"int": [1, 2.5]}}, "int needs whole numbers"),
        ({"train.visul.fit.lr": {"log": [1e-5, 1]}}, "has no settings 'train.visul.fit' to hold"),
    ],
)
def test_wrong_spaces_get_a_sentence(space, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tune.check_space(space, compose_recipe("dfdc_visual"))


def test_one_encoder_at_a_time():
    fusion, visual = compose_recipe("dfdc_fusion"), compose_recipe("dfdc_visual")
    assert tune.tuned_encoder({"train.audio.batch": {}}, fusion) == "audio"
    assert tune.tuned_encoder({"clip.crop_margin": {}}, visual) == "visual"
    with pytest.raises(ConfigError, match="about audio, visual: split it"):
        tune.tuned_encoder({"train.audio.batch": {}, "train.visual.batch": {}}, fusion)
    with pytest.raises(ConfigError, match="about audio, which is none of the modalities"):
        tune.tuned_encoder({"train.audio.batch": {}}, visual)
    with pytest.raises(ConfigError, match="several encoders side by side"):
        tune.tuned_encoder({"train.visual.batch": {}}, {**visual, "members": {"a": {}}})


def test_every_space_that_is_shipped_fits_its_encoder():
    files = sorted((Path(CONFIG_DIR) / "tune").glob("*.yaml"))
    assert {"visual", "audio", "lipsync"} <= {file.stem for file in files}
    for file in files:
        recipe = file.stem if (Path(CONFIG_DIR) / "recipe" / file.name).exists() else "dfdc_fusion"
        base = compose_recipe(recipe, ["data.root=demo"])
        space = tune.check_space(tune._read_space(recipe, base, None, file.stem), base)
        assert tune.tuned_encoder(space, base) in base["modalities"]


def test_which_space_is_taken(tmp_path):
    base = compose_recipe("dfdc_visual")
    own = {"train.visual.batch": {"int": [1, 2]}}
    assert tune._read_space("dfdc_visual", base, own, None) == own
    assert "train.visual.fit.lr" in tune._read_space("dfdc_visual", base, None, None)  # of its only modality
    with pytest.raises(ConfigError, match="no search space 'dfdc_fusion': give --space with one of audio"):
        tune._read_space("dfdc_fusion", compose_recipe("dfdc_fusion"), None, None)
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        tune._read_space("dfdc_visual", base, None, str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    "request_", [("no_such_recipe", []), ("dfdc_visual", ["sed=1"]), ("dfdc_visual", ["a=[1"])]
)
def test_a_recipe_that_cannot_be_composed_gets_a_sentence(request_):
    with pytest.raises(ConfigError, match="with these settings cannot be composed"):
        tune.tune_recipe(*request_, 1)


def test_without_optuna_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"tuning needs optuna, which is not installed: pip install 'avdetect\[tune\]'"
    ):
        tune.tune_recipe("dfdc_visual", [], 1)


@pytest.mark.slow
def test_three_trials_of_the_demo_set_with_a_kill(tmp_path):
    """As a user does it: killed in the second trial, started again, the study goes on where it stood."""
    (tmp_path / "space.yaml").write_text(
        "train.visual.fit.lr: {log: [1e-4, 1e-2]}\ntrain.visual.batch: {choice: [4, 8]}\n"
    )
    command = [
        sys.executable,
        "-m",
        "avdetect",
        "tune",
        "dfdc_visual",
        "data.demo.clips=24",
        "train.visual.fit.epochs=4",
    ]
    command += ["--trials", "3", "--space", "space.yaml", "--study", "mine.db"]
    options = {
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        "text": True,
    }
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)
    checkpoint = tmp_path / "mine" / "trial-0001" / "checkpoints" / "visual" / "last.pt"
    while not checkpoint.exists():
        assert process.poll() is None, "the study ended before its second trial"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    assert "visual  continued after epoch" in done.stderr and "trial 0" not in done.stderr
    table = pd.read_csv(tmp_path / "mine" / "trials.csv")
    assert list(table["state"]) == ["complete"] * 3 and "best on validation: loss" in done.stdout
    for index, row in table.iterrows():
        run = tmp_path / "mine" / f"trial-{index:04d}"
        assert not (run / "stages" / "test.json").exists() and not (run / "scores.parquet").exists()
        told = json.loads((run / "stages" / "visual.json").read_text())["validation"]
        assert told["loss"] == pytest.approx(row["loss"])
    assert table["loss"].min() == pytest.approx(float(done.stdout.split("loss ")[-1].split()[0]), abs=1e-4)
