import pytest
import torch
from torch.nn import functional as F

from avdetect.errors import ConfigError
from avdetect.training import BinaryLoss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(40, generator=generator), torch.randint(0, 2, (40,), generator=generator)


def test_focal_is_lins_formula(batch):
    logits, labels = batch
    p = torch.sigmoid(logits)
    q = torch.where(labels == 1, p, 1 - p)
    alpha = torch.where(labels == 1, 0.25, 0.75)  # the positive class, fake, has alpha
    expected = (-alpha * (1 - q) ** 2 * q.log()).mean()
    assert BinaryLoss("focal")(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_without_focus_is_half_of_cross_entropy(batch):
    plain = BinaryLoss()(*batch).item()
    assert BinaryLoss("focal", gamma=0.0, alpha=0.5)(*batch).item() == pytest.approx(0.5 * plain, rel=1e-6)


def test_weighted_bce_is_the_weighted_cross_entropy_of_two_logits(batch):
    """AASIST's loss: two outputs (spoof, bona fide), weights 0.1 and 0.9."""
    fake_logit, labels = batch
    other = torch.randn(40, generator=torch.Generator().manual_seed(1))
    outputs = torch.stack([fake_logit + other, other], 1)
    expected = F.cross_entropy(outputs, 1 - labels, weight=torch.tensor([0.1, 0.9]))
    found = BinaryLoss(class_weights=(0.9, 0.1))(outputs[:, 0] - outputs[:, 1], labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_mse_is_of_the_probability(batch):
    logits, labels = batch
    expected = F.mse_loss(torch.sigmoid(logits), labels.float())
    assert BinaryLoss("mse")(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["bce", "focal", "mse"])
def test_smoothed_labels_draw_the_logits_back(name):
    """The smallest loss lies at p = 1 - smoothing / 2 for a fake."""
    loss, logit = BinaryLoss(name, smoothing=0.2), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        loss(logit, torch.ones(1, dtype=torch.long)).backward()
        optimizer.step()
    assert torch.sigmoid(logit).item() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "hinge"}, "unknown loss 'hinge': use bce, focal or mse"),
        ({"smoothing": 1.0}, "label smoothing is 1.0"),
        ({"alpha": 1.5}, "alpha 1.5"),
        ({"gamma": -1.0}, "gamma -1.0"),
        ({"class_weights": [1.0]}, "list of 2 numbers"),
        ({"class_weights": [1.0, 0.0]}, "two positive numbers"),
        ({"name": "focal", "class_weights": [1.0, 2.0]}, "weighs the classes by alpha"),
        ({"weight": 2}, "no setting weight"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BinaryLoss.from_dict(settings)
