import librosa
import numpy as np
import pytest
import torch
import torchaudio

from avdetect.encoders import LogMel
from avdetect.encoders.audio.logmel import level_normalise

RATE = 16000
SETTINGS = [
    {},
    {"n_fft": 1024, "win_length": 800, "hop_length": 128, "n_mels": 64, "fmin": 50.0, "fmax": 7000.0},
    {"htk": True, "norm": None},
    {"power": 1.0},
    {"center": False},
    {"pad_mode": "constant"},
]


@pytest.fixture(scope="module")
def audio():
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    sweep = np.sin(2 * np.pi * (200 + 1500 * time) * time) * (time % 0.5 < 0.4)
    return (0.3 * sweep + 0.01 * rng.standard_normal(time.size)).astype(np.float32)


def close(ours, reference):
    # relative to the loudest value: quiet cells carry the rounding of loud ones
    np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-6 * float(np.max(reference)))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_librosa(audio, settings):
    layer = LogMel(**settings)
    full = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80, "fmin": 0.0, "fmax": 8000.0}
    full |= {"htk": False, "norm": "slaney", "power": 2.0, "center": True, "pad_mode": "reflect"} | settings
    close(
        layer.mel(torch.from_numpy(audio)[None])[0].numpy(),
        librosa.feature.melspectrogram(y=audio, sr=RATE, **full),
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_torchaudio(audio, settings):
    theirs = {
        "n_fft": settings.get("n_fft", 512),
        "win_length": settings.get("win_length", 400),
        "hop_length": settings.get("hop_length", 160),
        "n_mels": settings.get("n_mels", 80),
        "f_min": settings.get("fmin", 0.0),
        "f_max": settings.get("fmax", 8000.0),
        "mel_scale": "htk" if settings.get("htk") else "slaney",
        "norm": settings.get("norm", "slaney"),
        "power": settings.get("power", 2.0),
        "center": settings.get("center", True),
        "pad_mode": settings.get("pad_mode", "reflect"),
    }
    x = torch.from_numpy(audio)[None]
    close(LogMel(**settings).mel(x).numpy(), torchaudio.transforms.MelSpectrogram(RATE, **theirs)(x).numpy())


def test_logarithm_floor_and_gradient_in_silence():
    layer = LogMel(log_floor=1e-5)
    silence = torch.zeros(1, RATE, requires_grad=True)
    out = layer(silence)
    torch.testing.assert_close(out, torch.full_like(out, float(np.log(1e-5))))
    out.sum().backward()
    assert torch.isfinite(silence.grad).all()


def test_a_tone_is_where_it_belongs():
    time = torch.arange(RATE) / RATE
    layer = LogMel()
    band = int(layer(torch.sin(2 * torch.pi * 1000 * time)[None])[0].mean(dim=1).argmax())
    centres = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=8000)[1:-1]
    assert abs(centres[band] - 1000) < 40


def test_exports_and_is_not_part_of_the_weights(audio):
    layer = LogMel()
    x = torch.from_numpy(audio)[None]
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))
    assert not layer.state_dict()


def test_other_powers_are_refused():
    with pytest.raises(ValueError, match="power must be 1 or 2, not 3"):
        LogMel(power=3.0)


def test_level_is_one_except_in_silence():
    x = torch.stack([torch.randn(1000) * 7, torch.zeros(1000)])
    level = level_normalise(x).square().mean(dim=1)
    torch.testing.assert_close(level, torch.tensor([1.0, 0.0]))
