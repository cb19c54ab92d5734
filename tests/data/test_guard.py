"""The test split stays closed while anything is trained or chosen."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

from avdetect.data import Manifest, guard
from avdetect.data.prepare import prepare
from avdetect.errors import DataError
from avdetect.recipes import tasks
from avdetect.recipes.evidence_store import EvidenceStore
from avdetect.training import FitSettings, fit
from avdetect.training.history import History

CLOSED = "the test split was asked for during training or selection"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six voices: two of each split."""
    folder = tmp_path_factory.mktemp("guard")
    rng = np.random.default_rng(0)
    rows = []
    for k, split in enumerate(("train", "train", "val", "val", "test", "test")):
        soundfile.write(folder / f"{k}.wav", rng.normal(0, 0.1, 16000), 16000)
        rows.append({"path": f"{k}.wav", "label": k % 2, "split": split, "source": f"s{k // 2}"})
    manifest = Manifest(pd.DataFrame(rows), root=folder, name="voices").check()
    return prepare(manifest, folder / "prepared", workers=0, progress=False)


def test_rows_of_the_test_split_are_not_handed_out(prepared):
    for split in ("train", "val"):
        assert len(prepared.rows("audio", split)) == 2
    with pytest.raises(DataError, match=CLOSED):
        prepared.rows("audio", "test")
    with pytest.raises(DataError, match=CLOSED):
        prepared.rows("audio")  # of every split


def test_a_final_test_opens_it_and_it_closes_again(prepared):
    with guard.open_test_data():
        assert len(prepared.rows("audio", "test")) == 2 and len(prepared.rows("audio")) == 6
    with pytest.raises(DataError, match=CLOSED):
        prepared.rows("audio", "test")
    with pytest.raises(ZeroDivisionError), guard.open_test_data():
        _ = 1 / 0
    with pytest.raises(DataError, match=CLOSED):
        prepared.rows("audio", "test")


def test_another_thread_does_not_find_it_open(prepared):
    with guard.open_test_data(), ThreadPoolExecutor(1) as pool:
        with pytest.raises(DataError, match=CLOSED):
            pool.submit(prepared.rows, "audio", "test").result()


def test_evidence_of_the_test_split_is_closed_as_well(prepared, tmp_path):
    store = EvidenceStore(tmp_path, prepared, {}, lambda line: None)
    assert len(store.rows("val")) == 2
    for ask in (store.table, store.rows, store.truths, store.features):
        with pytest.raises(DataError, match=CLOSED):
            ask("test")
    with guard.open_test_data():
        assert len(store.rows("test")) == 2
    with pytest.raises(DataError, match=CLOSED):
        store.rows("test")  # though it is known by now


def test_training_does_not_begin_while_the_test_split_is_open(tmp_path):
    with guard.open_test_data(), pytest.raises(DataError, match="training was started while the test split"):
        fit(None, FitSettings(), tmp_path, History(tmp_path / "history.jsonl"))


def test_planted_mistake_checkpoint_chosen_on_test(prepared, monkeypatch):
    """A recipe whose validation rows are those of the test split does not get them."""
    honest = tasks._rows

    def chosen_on_test(prepared, stage, **options):
        train, _ = honest(prepared, stage, **options)
        return [train, prepared.rows(stage, "test", **options)]

    monkeypatch.setattr(tasks, "_rows", chosen_on_test)
    with pytest.raises(DataError, match="choose on val"):
        tasks.encoder_task("audio", nn.Linear(1, 1), prepared, {"window_s": None}, seed=0)


def test_planted_mistake_thresholds_chosen_on_test(smoke_run, tmp_path, monkeypatch):
    """The recipe's own calibration, told to look at the test split, stops with a sentence."""
    import yaml
    from accelerate import PartialState

    from avdetect.recipes.run_folder import RunFolder
    from avdetect.recipes.stages import Context

    shutil.copytree(smoke_run, tmp_path / "run")
    config = yaml.safe_load((smoke_run / "config.yaml").read_text())
    config["data"]["work_dir"] = str(smoke_run.parents[1] / "data")
    context = Context(config, RunFolder(tmp_path / "run"), PartialState(), lambda line: None)
    rows = EvidenceStore.rows
    monkeypatch.setattr(EvidenceStore, "rows", lambda self, split: rows(self, "test"))
    with torch.inference_mode(), pytest.raises(DataError, match=CLOSED):
        context.calibrate()
