import numpy as np
import pytest
import torch

from avdetect.data.pseudo.vocoders import load_generators
from avdetect.errors import ConfigError, DataError
from avdetect.training import voice_generator
from avdetect.training.voice_generator import VoiceGeneratorSettings, fit_voice_generators, spectral_loss

SMALL = {"steps": 6, "batch": 2, "width": 16, "networks": ("istft",), "keep": (0.5, 1.0), "critic_from": 0.4}


@pytest.fixture
def speech(monkeypatch):
    """Stands for the prepared set: two waveforms of noise."""
    rng = np.random.default_rng(0)
    given = [0.1 * rng.standard_normal(12000).astype(np.float32) for _ in range(2)]
    monkeypatch.setattr(voice_generator, "_speech", lambda prepared, settings: (given, 16000))
    return given


def test_networks_are_trained_kept_and_not_trained_again(speech, tmp_path, monkeypatch):
    said = []
    files = fit_voice_generators(None, SMALL, tmp_path, said.append)
    assert [f.name for f in files] == ["voice-istft-050.safetensors", "voice-istft-100.safetensors"]
    assert "step 6 of 6" in said[-1]
    generators = load_generators(tmp_path)
    copies = [generators.copy(speech[0], np.random.default_rng(seed))[0] for seed in range(4)]
    assert any(not np.array_equal(copies[0], other) for other in copies[1:])  # the two stages differ
    before = files[0].read_bytes()
    monkeypatch.setattr(voice_generator, "fit_one", None)  # would be called
    assert fit_voice_generators(None, SMALL, tmp_path, said.append) == files
    assert files[0].read_bytes() == before


def test_the_same_seed_gives_the_same_network(speech, tmp_path):
    for name in ("a", "b"):
        fit_voice_generators(None, SMALL, tmp_path / name, lambda line: None)
    files = [tmp_path / name / "voice-istft-100.safetensors" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_spectral_loss_is_zero_for_equals_and_grows_with_difference():
    sound = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
    assert float(spectral_loss(sound, sound)) == 0.0
    assert float(spectral_loss(0.9 * sound, sound)) < float(spectral_loss(0.1 * sound, sound))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0: it must be 1 or more"),
        ({"excerpt_s": 0}, "excerpt_s is 0: it must be positive"),
        ({"networks": ("wavenet",)}, "unknown voice generators wavenet: known are"),
        ({"keep": (1.5,)}, "keep is .*it must be parts in"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        VoiceGeneratorSettings(**settings)


def test_a_set_without_speech(tmp_path):
    class Nothing:
        class settings:
            sample_rate = 16000

        def rows(self, stage, split):
            import pandas as pd

            return pd.DataFrame({"truth": []})

    with pytest.raises(DataError, match="has no genuine speech of 0.5 s: voice generators cannot be trained"):
        fit_voice_generators(Nothing(), SMALL, tmp_path)
