"""Attacks raise the loss within their bounds, and training on them makes them fail more often."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from avdetect.encoders import create_encoder
from avdetect.encoders.base import Encoder
from avdetect.errors import ConfigError
from avdetect.training import Adversarial, BinaryLoss, EncoderTask, FitSettings, fit
from avdetect.training.history import History
from avdetect.training.sampling import ShuffledBatches
from avdetect.transforms import AudioPreprocess, VisualPreprocess

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LOSS = BinaryLoss()


class Pixels(Encoder):
    """Pictures of 4 pixels; one dense layer between them and the logit."""

    kind = "visual"

    def __init__(self):
        super().__init__("pixels", 16, VisualPreprocess(2, MEAN, STD), {})
        self.hidden = nn.Linear(12, 16)
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.2)
        self.classifier = nn.Linear(16, 1)

    def embed(self, x):
        return self.drop(torch.relu(self.norm(self.hidden(x.flatten(1)))))

    def classify(self, embedding):
        return self.classifier(embedding).squeeze(1)


class Waves(Pixels):
    def __init__(self):
        super().__init__()
        self.preprocess = AudioPreprocess(window_s=12 / 16000, hop_s=12 / 16000)


def pictures(count, seed):
    """A robust feature (the first channel), and a frail one that tells more: a hundredth of the range."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (count,), generator=generator)
    sign = (2 * label - 1).float()
    raw = 0.5 + 0.02 * torch.randn(count, 3, 2, 2, generator=generator)
    raw[:, 0] += (0.12 * sign + 0.1 * torch.randn(count, generator=generator))[:, None, None]
    raw[:, 2] = 0.5 + 0.01 * sign[:, None, None] + 0.001 * torch.randn(count, 2, 2, generator=generator)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    return (raw.clamp(0, 1) - mean) / std, label


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = Pixels()
    made.train()
    for _ in range(20):
        made(pictures(64, 1)[0])  # running statistics
    return made


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_an_attack_raises_the_loss_within_its_bounds(encoder, name):
    x, label = pictures(200, 2)
    attack = Adversarial(name, epsilon=4 / 255)
    hard = attack.perturb(encoder, x, label, LOSS)
    std = torch.tensor(STD).view(3, 1, 1)
    moved = ((hard - x) * std).abs()
    assert moved.max() <= 4 / 255 + 1e-6 and moved.mean() > 1 / 255
    raw = hard * std + torch.tensor(MEAN).view(3, 1, 1)
    assert raw.min() >= -1e-6 and raw.max() <= 1 + 1e-6
    encoder.eval()
    with torch.no_grad():
        assert LOSS(encoder(hard), label) > LOSS(encoder(x), label) + 0.01


def test_pgd_is_at_least_as_strong_as_fgsm(encoder):
    x, label = pictures(200, 3)
    encoder.eval()
    losses = {}
    for name in ("fgsm", "pgd"):
        torch.manual_seed(0)
        attack = Adversarial(name, epsilon=0.1, steps=20)
        with torch.no_grad():
            losses[name] = LOSS(encoder(attack.perturb(encoder, x, label, LOSS)), label).item()
    assert losses["pgd"] >= losses["fgsm"] - 1e-6


def test_the_network_is_left_as_it_was(encoder):
    """Neither modes, nor statistics, nor gradients change; a frozen part stays in evaluation mode."""
    encoder.norm.eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    found = Adversarial("pgd").perturb(encoder, *pictures(32, 4), LOSS)
    assert encoder.training and encoder.drop.training and not encoder.norm.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not found.requires_grad


def test_waveforms_stay_within_full_scale_or_where_they_were():
    torch.manual_seed(0)
    encoder = Waves()
    x = torch.linspace(-1.2, 1.2, 5 * 12).view(5, 12)
    hard = Adversarial("fgsm", epsilon=0.1).perturb(encoder, x, torch.tensor([0, 1, 0, 1, 1]), LOSS)
    assert (hard - x).abs().max() <= 0.1 + 1e-6
    inside = x.abs() <= 1
    assert hard[inside].abs().max() <= 1
    assert (hard.abs() <= x.abs())[~inside].all()
    assert (hard != x).float().mean() > 0.8


@pytest.mark.parametrize("name", ["efficientnet_autoatt_tiny", "mel_cnn_tiny"])
def test_attacks_reach_the_input_of_real_encoders(name):
    torch.manual_seed(0)
    encoder = create_encoder(name).eval()
    x, label = encoder.example_inputs(2)[0], torch.tensor([0, 1])
    hard = Adversarial("fgsm", epsilon=0.01).perturb(encoder, x, label, LOSS)
    with torch.no_grad():
        assert LOSS(encoder(hard), label) > LOSS(encoder(x), label)


def task(seed, adversarial=None, stop_in_epoch=None):
    class Rows(list):
        def set_epoch(self, epoch):
            if epoch == stop_in_epoch:
                raise InterruptedError

    def rows(count, seed):
        return Rows(
            {"x": x, "label": y, "clip": i}
            for i, (x, y) in enumerate(zip(*pictures(count, seed), strict=True))
        )

    torch.manual_seed(seed)
    train = rows(256, 5)
    loader = DataLoader(train, batch_sampler=ShuffledBatches(256, 32, seed))
    return EncoderTask("pixels", Pixels(), loader, DataLoader(rows(128, 6), batch_size=64), LOSS, adversarial)


SETTINGS = FitSettings(epochs=12, lr=1e-2, warmup=0, weight_decay=0.0, monitor="-loss", patience=12)


def train(folder, settings=SETTINGS, **options):
    learned = task(0, **options)
    result = fit(learned, settings, folder / "c", History(folder / "history.jsonl"), lambda line: None)
    return learned.model.eval(), result


def robust_accuracy(encoder):
    x, label = pictures(400, 7)
    torch.manual_seed(1)
    hard = Adversarial("pgd", epsilon=0.03, steps=10).perturb(encoder, x, label, LOSS)
    with torch.no_grad():
        return ((encoder(hard) > 0) == label.bool()).float().mean().item()


def test_training_makes_a_network_withstand(tmp_path):
    plain, _ = train(tmp_path / "plain")
    attack = Adversarial("pgd", epsilon=0.03, steps=5, weight=1.0)
    # The last epoch counts here, not the one with the best clean validation loss.
    hardened, _ = train(tmp_path / "hard", adversarial=attack)
    assert robust_accuracy(hardened) > robust_accuracy(plain) + 0.2


def test_both_losses_are_logged(tmp_path):
    train(tmp_path, FitSettings(epochs=1, warmup=0), adversarial=Adversarial("fgsm", weight=0.25))
    (row,) = History(tmp_path / "history.jsonl").rows()
    assert row["train/adversarial"] > row["train/clean"]
    mixed = 0.75 * row["train/clean"] + 0.25 * row["train/adversarial"]
    assert row["train/loss"] == pytest.approx(mixed, rel=1e-5)


def test_adversarial_training_continues_exactly(tmp_path):
    """The random starts of PGD, too, follow from the epoch."""
    attack = Adversarial("pgd", steps=2)
    settings = FitSettings(epochs=4, lr=1e-2, warmup=0)
    whole, expected = train(tmp_path / "whole", settings, adversarial=attack)
    with pytest.raises(InterruptedError):
        train(tmp_path / "killed", settings, adversarial=attack, stop_in_epoch=2)
    resumed, result = train(tmp_path / "killed", settings, adversarial=attack)
    assert result.metrics == expected.metrics
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "cw"}, "unknown attack 'cw': use fgsm or pgd"),
        ({"epsilon": 0.0}, "epsilon 0.0"),
        ({"steps": 0}, "steps 0"),
        ({"weight": 1.5}, "the weight at most 1"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Adversarial.from_dict(settings)


def test_an_input_of_unknown_range_is_refused():
    encoder = create_encoder("lipsync_tiny")
    with pytest.raises(ConfigError, match="not of the input of lipsync_tiny"):
        Adversarial().perturb(encoder, torch.zeros(1, 20, 48, 48), torch.ones(1), LOSS)
