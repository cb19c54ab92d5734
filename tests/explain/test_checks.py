"""The sanity checks as pure functions, each with a case that passes and one that must not."""

import numpy as np
import pytest
import torch
from torch import nn

from avdetect.explain import checks
from avdetect.explain.views import FaceView


class Bright(nn.Module):
    """The logit is a mean in which the upper left quarter counts nine times as much."""

    name, kind = "bright", "visual"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((12, 12), 4.0))
        self.weight.data[:6, :6] = 36.0

    def forward(self, x):
        return (x.mean(1) * self.weight).mean((1, 2))


def test_the_pointing_game_counts_hits_against_chance():
    inside = np.zeros((10, 10), bool)
    inside[2:5, 2:5] = True
    right, wrong = np.zeros((10, 10)), np.zeros((10, 10))
    right[3, 3], wrong[8, 8] = 1.0, 1.0
    hits, chance, p = checks.pointing_game([right, right, wrong], [inside] * 3)
    assert hits.tolist() == [True, True, False] and chance == pytest.approx(0.09)
    assert p == pytest.approx(3 * 0.09**2 * 0.91 + 0.09**3)
    assert checks.pointing_game([wrong] * 3, [inside] * 3)[2] == 1.0


def test_the_peak_of_an_even_area_is_its_middle():
    values = np.zeros((9, 9))
    values[2:7, 4:7] = 2.0
    assert checks.peak(values) == (4, 5)


def test_removal_scores_tell_a_right_order_from_a_wrong_one():
    view, x = FaceView(Bright()), torch.randn(1, 3, 12, 12)
    x[..., :6, :6] += 2.0
    right = np.zeros((12, 12))
    right[:6, :6] = 1.0
    best, random, worst = (
        checks.removal_score(view, x, values)
        for values in (right, np.random.default_rng(0).random((12, 12)), -right)
    )
    assert best > random > worst


def test_better_than_random_is_paired():
    random = np.array([0.0, 10.0, 20.0, 30.0])
    gain, p = checks.better_than_random(random + [1.0, 1.1, 0.9, 1.0], random)
    assert gain == pytest.approx(1.0) and p < 1e-3
    assert checks.better_than_random(random - 1.0, random)[1] == 1.0
    assert checks.better_than_random(np.array([1.0]), np.array([0.0]))[1] == 1.0  # one input shows nothing


def test_an_artefact_is_planted_where_it_is_said_and_nowhere_else():
    view, x = FaceView(Bright()), torch.randn(1, 3, 12, 12)
    found = checks.plant(view, x, np.random.default_rng(3))
    changed = (found.x != x).any(1)[0].numpy()
    assert changed.any() and not (changed & ~found.inside).any()
    with torch.no_grad():
        assert float(view(found.x) - view(x)) == pytest.approx(found.rise, abs=1e-4) and found.rise > 0


def test_weights_are_redrawn_from_the_logit_down_and_the_original_is_kept():
    network = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 1))
    before = [layer.weight.clone() for layer in network]
    other = checks.redrawn(network, 2 / 3)
    same = [torch.equal(layer.weight, old) for layer, old in zip(other, before, strict=True)]
    assert same == [True, False, False]
    assert float(other[1].weight.std()) == pytest.approx(float(before[1].std()), rel=0.5)
    assert all(torch.equal(layer.weight, old) for layer, old in zip(network, before, strict=True))


def test_a_map_that_does_not_look_at_the_weights_is_caught():
    """Edges of the picture, whatever the network: the case of Adebayo et al."""
    given = checks.Planted(FaceView(Bright()), torch.rand(1, 3, 12, 12), np.ones((12, 12), bool), 9.0)

    def edges(view, x):
        return x.mean(1).diff(dim=1, prepend=x.mean(1)[:, :1]).abs()

    def weights(view, x):
        return (x.mean(1) * view.encoder.weight).detach()

    for run, low, high in ((edges, 1.0, 1.0), (weights, -0.5, 0.7)):
        likeness = checks.fall_of_likeness(run, [given], [run(given.view, given.x)[0].detach().numpy()])
        assert low - 1e-6 <= likeness[-1] <= high + 1e-6
    assert checks.likeness(np.zeros((3, 3)), np.ones((3, 3))) == 0.0


def test_completeness_is_a_part_of_the_difference():
    assert checks.completeness_error(torch.tensor([1.0, 0.9]), 3.0, 1.0) == pytest.approx(0.05)
