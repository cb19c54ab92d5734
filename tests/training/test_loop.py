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
from avdetect.training.checkpoints import load_state, save_state
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

    def __init__(self, die_in_epoch: int | None = None, stop_in_epoch: int | None = None):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(64, 2, generator=generator)
        y = (x.sum(1) + 0.8 * torch.randn(64, generator=generator) > 0).long()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        data = Cyclic(x, y, torch.arange(64))
        self.sampler = BalancedBatches(y.numpy(), 16, seed=3)
        self.train_loader = DataLoader(data, batch_sampler=self.sampler)
        self.val_loader = DataLoader(data, batch_size=10)
        self.die_in_epoch, self.stop_in_epoch = die_in_epoch, stop_in_epoch

    def set_epoch(self, epoch):
        self.sampler.set_epoch(epoch)
        if epoch == self.die_in_epoch:
            os.kill(os.getpid(), 9)
        if epoch == self.stop_in_epoch:
            raise InterruptedError

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


def test_averaged_weights_are_validated_kept_and_resumed(tmp_path):
    settings = FitSettings(epochs=6, lr=0.05, patience=10, warmup=2, average=0.9)
    whole, result = train(tmp_path / "whole", settings)
    with pytest.raises(InterruptedError):
        train(tmp_path / "parts", settings, stop_in_epoch=3)
    resumed, _ = train(tmp_path / "parts", settings)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key])
    last = load_state(tmp_path / "whole" / "checkpoints" / "last.pt")
    assert not torch.equal(last["average"]["0.weight"], last["model"]["0.weight"])
    best = load_state(tmp_path / "whole" / "checkpoints" / "best.pt")["model"]
    if result.best_epoch == 6:
        assert torch.equal(best["0.weight"], last["average"]["0.weight"])
    whole.model.eval()
    with torch.inference_mode():
        outputs = [whole.predict(whole.model, batch) for batch in whole.val_loader]
    joined = {key: np.concatenate([part[key].numpy() for part in outputs]) for key in outputs[0]}
    assert whole.metrics(joined)["loss"] == pytest.approx(result.metrics["loss"], abs=1e-6)


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


def test_plateau_counts_as_torch_does_and_ends_below_a_rate(tmp_path):
    settings = FitSettings(
        epochs=20, lr=1e-12, patience=20, schedule="plateau", warmup=1, weight_decay=0.0,
        plateau_patience=1, plateau_factor=0.5, lr_stop=3e-13,
    )  # fmt: skip
    train(tmp_path, settings)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-12)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, eps=0.0)
    expected = []
    while optimizer.param_groups[0]["lr"] >= 3e-13:
        expected.append(optimizer.param_groups[0]["lr"])
        theirs.step(1.0)
    assert rates == pytest.approx(expected) and len(rates) == 5


def test_cosine_reaches_the_floor_that_is_stated(tmp_path):
    train(tmp_path, FitSettings(epochs=6, lr=0.05, lr_min=0.02, warmup=0))
    rates = [json.loads(line)["lr"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert all(a > b for a, b in zip(rates, rates[1:], strict=False)) and 0.02 < rates[-1] < 0.0205


def test_no_epochs_keep_the_weights(tmp_path):
    before = {key: value.clone() for key, value in Toy().model.state_dict().items()}
    task, result = train(tmp_path, FitSettings(epochs=0))
    assert (result.best_epoch, result.epochs) == (0, 0) and 0 <= result.metrics["auc"] <= 1
    assert all(torch.equal(value, before[key]) for key, value in task.model.state_dict().items())
    assert not list(tmp_path.iterdir())


OPTIONS = {
    "frozen": FitSettings(epochs=6, lr=0.05, freeze=("0",)),
    "layers": FitSettings(epochs=6, lr=0.05, lr_scale={"0": 0.1, "3": 1.0}, optimizer="adam"),
    "sgd": FitSettings(epochs=6, lr=0.05, optimizer="sgd", clip_norm=None, schedule="plateau"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_continues_exactly(tmp_path, name):
    whole, expected = train(tmp_path / "whole", OPTIONS[name])
    with pytest.raises(InterruptedError):
        train(tmp_path / "stopped", OPTIONS[name], stop_in_epoch=3)
    resumed, result = train(tmp_path / "stopped", OPTIONS[name])
    assert result.metrics == expected.metrics
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_frozen_parts_do_not_move_and_scaled_ones_move_less(tmp_path):
    start = {key: value.clone() for key, value in Toy().model.state_dict().items()}
    settings = FitSettings(epochs=1, lr=1e-3, freeze=("3.bias",), lr_scale={"0": 0.01}, warmup=0)
    moved = {
        key: (value - start[key]).abs().max().item()
        for key, value in train(tmp_path, settings)[0].model.state_dict().items()
    }
    assert moved["3.bias"] == 0 and 0 < moved["0.weight"] < 0.05 * moved["3.weight"]


def test_a_checkpoint_from_before_an_option_existed_is_continued(tmp_path):
    settings = FitSettings(epochs=6, lr=0.05, patience=10, warmup=2)
    whole, expected = train(tmp_path / "whole", settings)
    with pytest.raises(InterruptedError):
        train(tmp_path / "old", settings, stop_in_epoch=3)
    path = tmp_path / "old" / "checkpoints" / "last.pt"
    state = load_state(path)
    first = (
        "epochs",
        "lr",
        "weight_decay",
        "schedule",
        "warmup",
        "patience",
        "clip_norm",
        "monitor",
        "precision",
    )
    state["settings"] = {key: state["settings"][key] for key in (*first, "seed")}
    save_state(state, path)
    assert train(tmp_path / "old", settings)[1].metrics == expected.metrics
    save_state(state, path)
    with pytest.raises(ConfigError, match="other settings"):
        train(tmp_path / "old", FitSettings(epochs=6, lr=0.05, patience=10, warmup=2, optimizer="adam"))


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
