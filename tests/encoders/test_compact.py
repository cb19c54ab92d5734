import pytest
import torch

from avdetect.encoders import create_encoder, describe_encoder


def counts(name, **settings):
    """(parameters, running statistics of batch norms)."""
    encoder = create_encoder(name, **settings)
    statistics = sum(b.numel() for b in encoder.buffers() if b.is_floating_point())
    return sum(p.numel() for p in encoder.parameters()), statistics


def test_baseline_has_the_count_of_the_reference_project():
    # that project's figures are Keras' totals: its Meso4 at 224 pixels has 24,233 so counted
    assert sum(counts("meso4", size=224)) == 24_233
    assert counts("baseline_cnn") == (422_401, 960)
    assert sum(counts("baseline_cnn")) == 423_361


@pytest.mark.parametrize("name, settings", [("baseline_cnn", {"dense": 16}), ("custom_cnn", {})])
def test_channels_and_size_are_settings(name, settings):
    encoder = create_encoder(name, channels=[4, 8, 12, 16], size=64, **settings).eval()
    assert encoder.embedding_dim == settings.get("dense", 16)
    assert encoder.settings["channels"] == [4, 8, 12, 16] and encoder.preprocess.size == 64
    with torch.inference_mode():
        for side in (64, 50, 224):  # the mean over places takes any size
            assert encoder(torch.randn(2, 3, side, side)).shape == (2,)


@pytest.mark.parametrize("name", ["baseline_cnn", "custom_cnn"])
def test_a_few_steps_tell_two_textures_apart(name):
    torch.manual_seed(0)
    encoder = create_encoder(name, channels=[8, 8, 16, 16], dropout=0.1, size=32)
    optimiser = torch.optim.Adam(encoder.parameters(), 3e-3)
    x = torch.randn(32, 3, 32, 32)
    label = (torch.arange(32) % 2).float()
    x[label == 1] = torch.nn.functional.avg_pool2d(x[label == 1], 3, 1, 1) * 3  # as strong, but smooth
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(encoder(x), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_sizes_of_the_cards():
    assert describe_encoder("custom_cnn").embedding_dim == 256
    assert describe_encoder("baseline_cnn").embedding_dim == 128
    assert describe_encoder("meso4").embedding_dim == 16
