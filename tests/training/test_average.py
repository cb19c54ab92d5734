import pytest
import torch
from torch import nn

from avdetect.errors import ConfigError
from avdetect.training import FitSettings
from avdetect.training.average import Average


def test_average_follows_the_weights():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = Average(model, 0.9)
    model.weight.data.fill_(1.0)
    average.update(1000)
    assert float(average.state["weight"]) == pytest.approx(0.1)
    average.update(1001)
    assert float(average.state["weight"]) == pytest.approx(0.19)


def test_first_steps_forget_the_start():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = Average(model, 0.999)
    model.weight.data.fill_(1.0)
    for step in range(1, 21):
        average.update(step)
    assert float(average.state["weight"]) > 0.99  # with the full decay it would be 0.02


def test_counts_of_batch_norm_are_copied_and_statistics_averaged():
    model = nn.BatchNorm1d(2).train()
    average = Average(model, 0.5)
    model(torch.randn(8, 2) + 3)
    average.update(1000)
    assert int(average.state["num_batches_tracked"]) == 1
    assert torch.allclose(average.state["running_mean"], model.running_mean / 2)


def test_model_has_the_average_inside_alone():
    model = nn.Linear(2, 1)
    average = Average(model, 0.5)
    own = model.weight.detach().clone() + 1
    model.weight.data.copy_(own)
    with pytest.raises(InterruptedError), average.in_place():
        assert torch.equal(model.weight, average.state["weight"])
        raise InterruptedError
    assert torch.equal(model.weight, own)


def test_decay_is_checked():
    with pytest.raises(ConfigError, match="average is 1.0: it must be between 0 and 1, or null for none"):
        FitSettings(average=1.0)
