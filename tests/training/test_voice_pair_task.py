import numpy as np
import pytest
import torch
from torch import nn

from avdetect.training.voice_pair_task import VoicePairTask


class Sum(nn.Module):
    def forward(self, x):
        return x.sum(1)


def task(rank):
    return VoicePairTask(Sum(), [], [], rank=rank)


def test_rank_sees_only_the_difference_within_a_pair():
    x = torch.tensor([[1.0], [3.0], [-2.0], [0.0]])
    label = torch.tensor([0, 1, 0, 1])
    shifted = x + torch.tensor([[5.0], [5.0], [-1.0], [-1.0]])
    first, second = (task(1.0).step(Sum(), {"x": part, "label": label}) for part in (x, shifted))
    assert float(first["rank"]) == pytest.approx(np.log1p(np.exp(-2.0)))
    torch.testing.assert_close(first["rank"], second["rank"])
    assert float(first["loss"]) == pytest.approx(float(first["binary"] + first["rank"]))
    assert float(task(0.0).step(Sum(), {"x": x, "label": label})["loss"]) == pytest.approx(
        float(first["binary"])
    )


def test_metrics_tell_the_kinds_of_fakes_apart():
    outputs = {
        "origin": np.array([0, 0, 0, 1, 2, 2]),
        "clip": np.array([0, 2, 4, 6, 1, 3]),
        "label": np.array([0, 0, 0, 1, 1, 1]),
        "logit": np.array([0.0, 1.0, 2.0, 0.5, 3.0, 4.0]),
    }
    found = task(0.5).metrics(outputs)
    assert found["auc_labelled"] == pytest.approx(1 / 3) and found["auc_pseudo"] == 1.0
    assert found["auc"] == pytest.approx(2 / 3) and found["loss"] > 0
    without = {name: values[outputs["origin"] != 1] for name, values in outputs.items()}
    assert "auc_labelled" not in task(0.5).metrics(without) and task(0.5).metrics(without)["auc"] == 1.0
