import numpy as np
import pytest
import torch

from avdetect.data.pseudo import vocoders
from avdetect.data.pseudo.vocoders import (
    Vocoder,
    load_generator,
    load_generators,
    resynthesise,
    save_generator,
)
from avdetect.encoders import create_encoder, save_encoder
from avdetect.errors import WeightsError


@pytest.mark.parametrize("kind", vocoders.NETWORKS)
def test_a_network_keeps_the_length_and_learns(kind):
    torch.manual_seed(0)
    network, speech = Vocoder(kind, 16), torch.randn(2, 2048)
    copy = network(speech)
    assert copy.shape == speech.shape and copy.dtype == torch.float32
    assert copy.std() > 0.05  # it does not begin near silence
    copy.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_an_unknown_network():
    with pytest.raises(ValueError, match="unknown vocoder 'wavenet': one of"):
        Vocoder("wavenet")


@pytest.mark.parametrize("samples", [100, 1000, 5000])
def test_a_copy_is_as_long_and_as_loud(samples):
    sound = 0.05 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    copy = resynthesise(Vocoder("istft", 16).eval(), sound)
    assert copy.shape == sound.shape
    np.testing.assert_allclose(copy.std(), sound.std(), rtol=0.1)
    assert not resynthesise(Vocoder("istft", 16), np.zeros(samples, np.float32)).any()


def test_saved_and_loaded_networks_say_the_same(tmp_path):
    network = Vocoder("codec", 16).eval()
    save_generator(network, tmp_path / "voice-codec-100.safetensors")
    sound = np.random.default_rng(0).standard_normal(2048).astype(np.float32)
    found = load_generator(tmp_path / "voice-codec-100.safetensors")
    np.testing.assert_array_equal(resynthesise(found, sound), resynthesise(network, sound))
    generators = load_generators(tmp_path)
    copy, name = generators.copy(sound, np.random.default_rng(0))
    assert name == "voice-codec-100" and generators.names == (name,)
    np.testing.assert_array_equal(copy, resynthesise(network, sound))


def test_folders_without_networks_and_other_files(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no voice-\*\.safetensors: run the stage generators"):
        load_generators(tmp_path)
    save_encoder(create_encoder("mel_cnn_tiny"), tmp_path / "voice-mel.safetensors")
    with pytest.raises(WeightsError, match="holds no voice generator: train them"):
        load_generators(tmp_path)
