"""UCF's losses against plain references, its pairing, and that all of it learns."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.training import FitSettings, fit
from avdetect.training.history import History
from avdetect.training.sampling import BalancedBatches
from avdetect.training.ucf import (
    UCFOutputs,
    UCFTask,
    UCFWeights,
    contrastive_loss,
    permutation_within,
    reconstruction_loss,
    ucf_losses,
)

METHODS = torch.tensor([0, 0, 0, 2, 1, 2])


def loader(*methods):
    return SimpleNamespace(dataset=SimpleNamespace(methods=list(methods)))


def task(**settings):
    torch.manual_seed(0)
    encoder = create_encoder("ucf_tiny", size=64, methods=3, **settings)
    return UCFTask("visual", encoder, loader("swap", "reenacted"), None)


def alternating(pairs, methods=(1, 2), size=64):
    method = torch.zeros(2 * pairs, dtype=torch.int64)
    method[1::2] = torch.tensor([methods[i % len(methods)] for i in range(pairs)])
    x = torch.rand(2 * pairs, 3, size, size) * 2 - 1
    return {"x": x, "label": (method > 0).long(), "method": method, "clip": torch.arange(2 * pairs)}


def distance(a, b):
    return np.sqrt(np.square(a - b + 1e-6).sum(-1))


def cross_entropy(logits, labels):
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def test_permutation_keeps_kinds_and_moves_samples():
    torch.manual_seed(0)
    kinds = torch.tensor([0, 3, 0, 1, 1, 3, 0, 2])
    orders = {tuple(permutation_within(kinds).tolist()) for _ in range(400)}
    assert len(orders) == 6 * 2 * 2 * 1  # every one that is possible
    for order in orders:
        assert sorted(order) == list(range(8))
        assert torch.equal(kinds[list(order)], kinds)


def test_reconstruction_loss_reference():
    rng = np.random.default_rng(0)
    own, crossed, images = rng.normal(size=(3, 4, 3, 8, 8)).astype(np.float32)
    expected = sum(
        np.abs(made[half] - images[half]).mean()
        for made in (own, crossed)
        for half in (slice(0, 2), slice(2, 4))
    )
    ours = reconstruction_loss(*map(torch.tensor, (own, crossed, images)))
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss_reference():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(6, 5)).astype(np.float32)
    order = np.array([2, 0, 1, 3, 5, 4])
    genuine, fake = vectors[:3], vectors[3:]
    genuine_moved, fake_moved = vectors[order[:3]], vectors[order[3:]]
    expected = (
        np.maximum(distance(genuine, genuine_moved) - distance(genuine, fake_moved) + 3, 0).mean()
        + np.maximum(distance(fake, fake_moved) - distance(fake, genuine_moved) + 3, 0).mean()
    )
    ours = contrastive_loss(torch.tensor(vectors), torch.tensor(order))
    assert ours.item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_loss_is_nothing_once_the_halves_are_a_margin_apart():
    vectors = torch.zeros(6, 5)
    vectors[3:, 0] = 3.1
    order = permutation_within(METHODS > 0)
    assert contrastive_loss(vectors, order) == 0
    assert contrastive_loss(vectors, order, margin=4.0).item() == pytest.approx(2 * 0.9, rel=1e-4)


def test_losses_reference_and_published_weights():
    rng = np.random.default_rng(2)
    # one vector a kind: the contrast does not depend on the order that is drawn
    shared = np.repeat(rng.normal(size=(2, 4)), 3, axis=0).astype(np.float32)
    specific = rng.normal(size=(3, 4)).astype(np.float32)[METHODS.numpy()]
    specific[3:] = specific[3]
    shared_logits, specific_logits = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
    own, crossed, images = rng.normal(size=(3, 6, 3, 8, 8)).astype(np.float32)
    contrast = sum(
        np.maximum(3 + distance(v[:1], v[:1]) - distance(v[:1], v[3:4]), 0)[0]
        + np.maximum(3 + distance(v[:1], v[:1]) - distance(v[3:4], v[:1]), 0)[0]
        for v in (shared, specific)
    )
    expected = {
        "shared": cross_entropy(shared_logits, np.array([0, 0, 0, 1, 1, 1])),
        "specific": cross_entropy(specific_logits, METHODS.numpy()),
        "reconstruction": 2 * np.abs(own - images).mean() + 2 * np.abs(crossed - images).mean(),
        "contrast": contrast,
    }
    tensors = map(torch.tensor, (shared_logits, specific_logits, shared, specific, own, crossed))
    ours = ucf_losses(UCFOutputs(*tensors), torch.tensor(images), METHODS, UCFWeights())
    total = ours.pop("loss").item()
    assert {key: value.item() for key, value in ours.items()} == pytest.approx(expected, rel=1e-4)
    weighted = (
        expected["shared"]
        + 0.1 * expected["specific"]
        + 0.3 * expected["reconstruction"]
        + 0.05 * expected["contrast"]
    )
    assert total == pytest.approx(weighted, rel=1e-4)


def test_each_half_is_rebuilt_from_its_own_and_its_partners_fingerprint():
    """Content decides which image is meant: with the partner's fingerprint it is still one's own."""
    model = task().model.eval()
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    model.encoder.reconstruct = lambda fingerprint, content: torch.cat([fingerprint, content], dim=1)
    order = torch.tensor([1, 0, 2, 3])  # the genuine two exchange what they share
    with torch.inference_mode():
        outputs = model(x, order)
        parts = model.encoder.disentangle(x)
        shared = parts.shared_map.clone()
        shared[0], shared[1] = parts.shared_map[1], parts.shared_map[0]
        for i, partner in enumerate([2, 3, 0, 1]):
            for made, j in ((outputs.own, i), (outputs.crossed, partner)):
                fingerprint = torch.cat([parts.specific_map[j], shared[j]])
                assert torch.equal(made[i], torch.cat([fingerprint, parts.content[i]]))
        assert torch.equal(outputs.shared, parts.shared)
        assert torch.equal(model(x), model.encoder(x))
        everything = torch.cat([outputs.own, outputs.crossed])
    assert len(everything.flatten(1).unique(dim=0)) == 8, "the rows can't be told apart"


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_shared_features_are_exchanged_within_the_halves(rate):
    ucf = task()
    ucf.weights = UCFWeights(exchange=rate)
    orders = []

    def model(x, order):
        orders.append(order.tolist())
        return ucf.model(x, order)

    for _ in range(8):
        ucf.step(model, alternating(3))
    assert all(set(order[:3]) == {0, 1, 2} and set(order[3:]) == {3, 4, 5} for order in orders)
    assert all(order == list(range(6)) for order in orders) == (rate == 0)


def test_published_rate_of_exchange():
    ucf, orders = task(), []
    model = lambda x, order: orders.append(order.tolist()) or ucf.model(x, order)  # noqa: E731
    batch = alternating(4)
    ucf.model.encoder.reconstruct = lambda fingerprint, content: batch["x"]  # quick
    torch.manual_seed(0)
    for _ in range(100):
        ucf.step(model, batch)
    moved = np.mean([order != list(range(8)) for order in orders])
    assert 0.6 < moved < 0.8


def test_pairs_are_genuine_first_in_the_order_of_the_batch():
    batch = alternating(3)
    x, methods = task()._pairs(batch)
    assert torch.equal(x, batch["x"][[0, 2, 4, 1, 3, 5]])
    assert methods.tolist() == [0, 0, 0, 1, 2, 1]


def test_every_parameter_learns():
    ucf = task()
    losses = ucf.step(ucf.model.train(), alternating(4))
    losses["loss"].backward()
    gradients = {key: p.grad for key, p in ucf.model.named_parameters()}
    assert [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []
    assert [key for key, grad in gradients.items() if not grad.any()] == []
    assert set(losses) == {"loss", "shared", "specific", "reconstruction", "contrast"}


def test_mixed_precision_stays_close():
    ucf = task(dropout=0.0, decoder_dropout=0.0)
    ucf.weights = UCFWeights(exchange=0.0)
    batch = alternating(4, methods=(1,))
    ucf.model.eval()
    with torch.inference_mode():
        torch.manual_seed(3)
        expected = ucf.step(ucf.model, batch)
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = ucf.step(ucf.model, batch)
    for key, value in expected.items():
        assert reduced[key].dtype == torch.float32
        torch.testing.assert_close(reduced[key], value, atol=0.02, rtol=0.02)


def test_batches_that_can_not_be_paired_are_refused():
    ucf, batch = task(), alternating(3)
    with pytest.raises(ConfigError, match="holds 3 genuine and 2 fake ones: train it with balanced batches"):
        ucf.step(ucf.model, {key: value[:5] for key, value in batch.items()})
    with pytest.raises(DataError, match="names a method for a genuine sample, or none for a fake one"):
        ucf.step(ucf.model, {**batch, "method": torch.zeros(6, dtype=torch.int64)})


def test_more_methods_than_classes_are_refused():
    encoder = create_encoder("ucf_tiny", methods=3)
    UCFTask("visual", encoder, loader("swap"), None)  # a class to spare
    with pytest.raises(
        ConfigError,
        match=r"has 3 methods of manipulation \(swap, lips, gan\), .*tells 3 apart: .*to 4 or more",
    ):
        UCFTask("visual", encoder, loader("swap", "lips", "gan"), None)


def test_other_networks_are_refused():
    with pytest.raises(
        ConfigError, match="not efficientnet_autoatt_tiny: choose the encoder ucf or ucf_tiny"
    ):
        UCFTask("visual", create_encoder("efficientnet_autoatt_tiny"), loader("swap"), None)


class Planted(Dataset):
    """Smooth colours; in a fake one of two regular patterns lies over them, according to its method."""

    methods = ["checks", "stripes"]

    def __init__(self, count, seed, size=64):
        rng = np.random.default_rng(seed)
        coarse = torch.tensor(rng.uniform(-0.7, 0.7, (count, 3, 4, 4)), dtype=torch.float32)
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
        smooth += 0.05 * torch.tensor(rng.normal(size=smooth.shape), dtype=torch.float32)
        row, column = np.indices((size, size))
        patterns = np.stack([0 * row, (row + column) // 2 % 2 - 0.5, column // 2 % 2 - 0.5])
        self.method = rng.integers(1, 3, count) * (np.arange(count) % 2)
        strength = rng.uniform(0.1, 0.25, (count, 1, 1, 1))
        self.x = smooth + torch.tensor(strength * patterns[self.method][:, None], dtype=torch.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        index = index % len(self)
        method = int(self.method[index])
        return {"x": self.x[index], "label": int(method > 0), "method": method, "clip": index}

    def set_epoch(self, epoch):
        pass


def test_learns_a_planted_artefact(tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder("ucf_tiny", size=64, methods=3)
    train, val = Planted(96, 0), Planted(48, 1)
    sampler = BalancedBatches((train.method > 0).astype(int), 16, seed=0)
    train_loader = DataLoader(train, batch_sampler=sampler)
    ucf = UCFTask("visual", encoder, train_loader, DataLoader(val, batch_size=16))
    settings = FitSettings(epochs=8, lr=3e-3, warmup=5)
    result = fit(ucf, settings, tmp_path / "checkpoints", History(tmp_path / "history.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    for part in ("loss", "shared", "specific", "reconstruction", "contrast"):
        assert last[f"train/{part}"] < first[f"train/{part}"]
    assert result.metrics["auc"] > 0.95 and result.metrics["auc"] > first["val/auc"] + 0.1
