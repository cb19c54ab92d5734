"""The loop on a toy task: learns, stops, and continues after a kill as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avdetect.errors import ConfigError, WeightsError
from avdetect.training import FitSettings, fit
from avdetect.training.history import History
from avdetect.training.losses import binary_loss
from avdetect.training.sampling import BalancedBatches
from avdetect.training.tasks import clip_metrics

PATHS = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class Cyclic(TensorDataset):
    def __getitem__(self, index):
        return super().__getitem__(index % 64)


class Toy:
    """Two-dimensional points; dropout makes training depend on the random numbers of each epoch."""

    name = "toy"

    def __init__(self, die_in_epoch: int | None = None):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(64, 2, generator=generator)
        y = (x.sum(1) + 0.8 * torch.randn(64, generator=generator) > 0).long()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        data = Cyclic(x, y, torch.arange(64))
        self.sampler = BalancedBatches(y.numpy(), 16, seed=3)
        self.train_loader = DataLoader(data, batch_sampler=self.sampler)
        self.val_loader = DataLoader(data, batch_size=10)
        self.die_in_epoch = die_in_epoch

    def set_epoch(self, epoch):
        self.sampler.set_epoch(epoch)
        if epoch == self.die_in_epoch:
            os.kill(os.getpid(), 9)

    def step(self, model, batch):
        return {"loss": binary_loss(model(batch[0]).squeeze(1), batch[1])}

    def predict(self, model, batch):
        return {"logit": model(batch[0]).squeeze(1), "label": batch[1], "clip": batch[2]}

    def metrics(self, outputs):
        return clip_metrics(outputs["clip"], outputs["label"], outputs["logit"])


def train(folder, settings=None, **options):
    task = Toy(**options)
    settings = settings or FitSettings(epochs=6, lr=0.05, patience=10, warmup=2)
    result = fit(task, settings, folder / "checkpoints", History(folder / "history.jsonl"), lambda line: None)
    return task, result


def test_learns_and_keeps_the_best_epoch(tmp_path):
    task, result = train(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert result.metrics["auc"] == max(row["val/auc"] for row in rows)
    task.model.eval()
    with torch.inference_mode():
        outputs = [task.predict(task.model, batch) for batch in task.val_loader]
    joined = {key: np.concatenate([part[key].numpy() for part in outputs]) for key in outputs[0]}
    assert task.metrics(joined)["auc"] == pytest.approx(result.metrics["auc"])
    assert list((tmp_path / "tensorboard" / "toy").iterdir())


def test_a_killed_run_continues_exactly(tmp_path):
    whole, expected = train(tmp_path / "whole")
    # Another interpreter: a fork of this one could hang in torch's threads.
    process = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "killed"), "3"], env=os.environ | PATHS
    )
    assert process.returncode == -9
    resumed, result = train(tmp_path / "killed")
    assert result.best_epoch == expected.best_epoch and result.metrics == expected.metrics
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)

    def rows(name):
        lines = (tmp_path / name / "history.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    assert rows("killed") == rows("whole")


def test_stops_when_nothing_is_gained(tmp_path):
    _, result = train(tmp_path, FitSettings(epochs=50, lr=0.0, patience=3))
    assert result.epochs == 4 and result.best_epoch == 1


def test_plateau_lowers_the_rate(tmp_path):
    # Steps too small to change a float32 weight: no epoch gains anything.
    train(
        tmp_path, FitSettings(epochs=5, lr=1e-12, patience=4, schedule="plateau", warmup=1, weight_decay=0.0)
    )
    rates = [json.loads(line)["lr"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-12, 1e-12, 1e-12, 1e-13, 1e-13])


def test_other_settings_are_not_continued(tmp_path):
    train(tmp_path)
    with pytest.raises(ConfigError, match="other settings"):
        train(tmp_path, FitSettings(epochs=7))


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tmp_path)
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="last.pt is damaged"):
        train(tmp_path)


def test_an_unknown_monitor_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match="'accuracy' to monitor: choose of auc, loss"):
        train(tmp_path, FitSettings(epochs=2, monitor="accuracy"))


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="cosine, plateau or constant"):
        FitSettings(schedule="step")


def test_a_loss_that_explodes_is_said(tmp_path):
    with pytest.raises(ConfigError, match="lower the learning rate"):
        train(tmp_path, FitSettings(epochs=3, lr=1e30, warmup=1, clip_norm=1e30, weight_decay=0.0))


if __name__ == "__main__":  # the process that is killed
    train(Path(sys.argv[1]), die_in_epoch=int(sys.argv[2]))
