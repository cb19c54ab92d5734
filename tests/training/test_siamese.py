"""Triplets, the features that they shape, and the head that is trained on these."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from avdetect.data.loaders import collate
from avdetect.encoders.base import Encoder
from avdetect.errors import ConfigError, DataError
from avdetect.training import EncoderTask, FitSettings, TripletTask, fit
from avdetect.training.history import History
from avdetect.training.sampling import BalancedBatches, TripletBatches, fixed_triplets
from avdetect.transforms import VisualPreprocess

LABELS = np.array([0] * 10 + [1] * 30)


def test_triplets_are_anchored_in_both_classes_in_turn():
    sampler = TripletBatches(LABELS, 4, seed=0)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 15 and all(len(batch) == 12 for batch in drawn)
    raised = np.concatenate(drawn)
    assert len(set(raised)) == len(raised)  # drawn again, a clip has another index
    anchor, positive, negative = (raised % 40).reshape(-1, 3).T
    assert LABELS[anchor].tolist() == [1, 0] * 30
    assert (LABELS[positive] == LABELS[anchor]).all() and (LABELS[negative] != LABELS[anchor]).all()
    assert (positive != anchor).all()
    assert set(anchor) == set(range(40)) and len(set(positive)) > 20
    sampler.set_epoch(1)
    assert list(sampler) != drawn
    sampler.set_epoch(0)
    assert list(sampler) == drawn


def test_an_epoch_has_as_many_batches_as_asked_for():
    assert len(list(TripletBatches(LABELS, 5, seed=0, batches=3))) == 3


def test_fixed_triplets_have_every_clip_as_anchor_once():
    anchor, positive, negative = np.array(fixed_triplets(LABELS, 3)).reshape(-1, 3).T
    assert anchor.tolist() == list(range(40))
    assert (LABELS[positive] == LABELS[anchor]).all() and (positive != anchor).all()
    assert (LABELS[negative] != LABELS[anchor]).all()
    assert fixed_triplets(LABELS, 3) == fixed_triplets(LABELS, 3) != fixed_triplets(LABELS, 4)


def test_a_class_with_one_clip_makes_no_triplets():
    with pytest.raises(DataError, match="there are 3 and 1"):
        TripletBatches(np.array([0, 0, 0, 1]), 2, seed=0)


class Rings(Encoder):
    kind = "visual"

    def __init__(self):
        super().__init__("rings", 4, VisualPreprocess(), {})
        self.body = nn.Sequential(
            nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4)
        )
        self.classifier = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))

    def embed(self, x):
        return self.body(x)

    def classify(self, embedding):
        return self.classifier(embedding).squeeze(1)


class Clips:
    """Two points a clip, on one of two rings, other ones in each epoch."""

    def __init__(self, count, stop_in_epoch=None):
        self.labels, self.epoch, self.stop_in_epoch = np.arange(count) % 2, 0, stop_in_epoch

    def __len__(self):
        return len(self.labels)

    def set_epoch(self, epoch):
        self.epoch = epoch
        if epoch == self.stop_in_epoch:
            raise InterruptedError

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.epoch + index)
        clip = index % len(self)
        angle = 2 * torch.pi * torch.rand(2, generator=generator)
        radius = 1.0 + self.labels[clip] + 0.15 * torch.randn(2, generator=generator)
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        return {"x": x, "label": torch.full((2,), int(self.labels[clip])), "clip": torch.full((2,), clip)}


def triplet_task(encoder, stop_in_epoch=None, margin=1.0):
    train, val = Clips(40, stop_in_epoch), Clips(20)
    loader = DataLoader(train, batch_sampler=TripletBatches(train.labels, 8, 0, 10), collate_fn=collate)
    fixed = Subset(val, fixed_triplets(val.labels, 0))
    return TripletTask(
        "visual-triplet", encoder, loader, DataLoader(fixed, batch_size=24, collate_fn=collate), margin
    )


def head_task(encoder, stop_in_epoch=None):
    train = Clips(40, stop_in_epoch)
    loader = DataLoader(train, batch_sampler=BalancedBatches(train.labels, 16, 0), collate_fn=collate)
    val = Subset(Clips(20), range(20))  # as a subset its points stay the same
    return EncoderTask("visual", encoder, loader, DataLoader(val, batch_size=7, collate_fn=collate))


def test_the_loss_is_of_corresponding_crops():
    torch.manual_seed(0)
    encoder = Rings().eval()
    task = triplet_task(encoder, margin=0.4)
    clips = torch.tensor([4, 4, 6, 6, 1, 1, 3, 3, 5, 5, 0, 0])
    x = torch.randn(12, 2)
    found = task.step(task.model, {"x": x, "clip": clips})["loss"]
    e = encoder.embed(x)
    hinges = [
        F.relu((e[a] - e[p]).norm() - (e[a] - e[n]).norm() + 0.4)
        for a, p, n in ((0, 2, 4), (1, 3, 5), (6, 8, 10), (7, 9, 11))
    ]
    assert found.item() == pytest.approx(torch.stack(hinges).mean().item(), rel=1e-4)


FIRST = FitSettings(epochs=6, lr=1e-2, warmup=0, monitor="-loss", freeze=("classifier",))
SECOND = FitSettings(epochs=5, lr=5e-2, warmup=0, freeze_features=True)


def both_stages(folder, stop_first=None, stop_second=None):
    torch.manual_seed(0)
    encoder, history = Rings(), History(folder / "history.jsonl")
    start = {key: value.clone() for key, value in encoder.state_dict().items()}
    first = fit(triplet_task(encoder, stop_first), FIRST, folder / "triplet", history, lambda line: None)
    between = {key: value.clone() for key, value in encoder.state_dict().items()}
    second = fit(head_task(encoder, stop_second), SECOND, folder / "visual", history, lambda line: None)
    return encoder, first, second, start, between


def test_features_first_then_the_head_alone(tmp_path):
    encoder, first, second, start, between = both_stages(tmp_path)
    rows = History(tmp_path / "history.jsonl").rows()
    triplet = [row for row in rows if row["stage"] == "visual-triplet"]
    assert triplet[-1]["train/loss"] < triplet[0]["train/loss"]
    assert first.metrics["loss"] == min(row["val/loss"] for row in triplet)
    assert first.metrics["ordered"] > 0.9 and second.metrics["auc"] > 0.95
    for key, value in encoder.state_dict().items():
        head = key.startswith("classifier.")
        assert torch.equal(between[key], start[key]) == head, key
        assert torch.equal(value, between[key]) != head, key  # statistics of the norms included
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("stop", [{"stop_first": 3}, {"stop_second": 2}])
def test_both_stages_continue_exactly(tmp_path, stop):
    whole, first, second, *_ = both_stages(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        both_stages(tmp_path / "killed", **stop)
    resumed, *results, _, _ = both_stages(tmp_path / "killed")
    assert [r.metrics for r in results] == [first.metrics, second.metrics]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_validation_sees_the_same_triplets_every_epoch(tmp_path):
    torch.manual_seed(0)
    task = triplet_task(Rings())
    # Nothing moves, and norms gather no statistics: the same triplets must give the same loss.
    settings = FitSettings(epochs=3, lr=0.0, warmup=0, monitor="-loss", freeze=("classifier", "body.1"))
    fit(task, settings, tmp_path / "c", History(tmp_path / "h.jsonl"), lambda line: None)
    losses = {row["val/loss"] for row in History(tmp_path / "h.jsonl").rows()}
    assert len(losses) == 1


def test_a_margin_must_be_positive():
    with pytest.raises(ConfigError, match="margin of the triplet loss is 0"):
        triplet_task(Rings(), margin=0.0)
