import subprocess
import sys

import numpy as np
import pytest
import torch
import torchaudio
from torch.nn import functional as F

from avdetect.encoders import LFCC, create_encoder
from avdetect.encoders.audio.lfcc_lcnn import MaxFeatureMap

RATE = 16000


@pytest.fixture(scope="module")
def audio():
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    sweep = np.sin(2 * np.pi * (200 + 1500 * time) * time) * (time % 0.5 < 0.4)
    return torch.from_numpy((0.3 * sweep + 0.01 * rng.standard_normal(time.size)).astype(np.float32))[None]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_fft": 512, "win_length": 400, "filters": 40, "coefficients": 13},
        {"hop_length": 128, "filters": 70, "coefficients": 60},
    ],
    ids=str,
)
def test_equals_torchaudio(audio, settings):
    full = {"n_fft": 1024, "win_length": 320, "hop_length": 160, "filters": 20, "coefficients": 20} | settings
    reference = torchaudio.transforms.LFCC(
        RATE,
        n_filter=full["filters"],
        n_lfcc=full["coefficients"],
        f_min=0.0,
        f_max=RATE / 2,
        log_lf=True,
        speckwargs={key: full[key] for key in ("n_fft", "win_length", "hop_length")},
    )
    torch.testing.assert_close(LFCC(**settings).cepstrum(audio), reference(audio), atol=1e-4, rtol=0)


def test_differences_in_time(audio):
    layer = LFCC()
    full, plain = layer(audio)[0].numpy(), layer.cepstrum(audio)[0].numpy()
    assert full.shape == (60, 2 * RATE // 160 + 1) and layer.rows == 60
    np.testing.assert_array_equal(full[:20], plain)
    np.testing.assert_array_equal(full[20:40, 1:-1], plain[:, 2:] - plain[:, :-2])
    np.testing.assert_array_equal(full[20:40, 0], plain[:, 1] - plain[:, 0])  # the ends are repeated
    np.testing.assert_array_equal(full[40:, 1:-1], full[20:40, 2:] - full[20:40, :-2])
    assert LFCC(differences=0)(audio).shape[1] == 20


def test_exports_and_is_not_part_of_the_weights(audio):
    layer = LFCC()
    torch.testing.assert_close(torch.export.export(layer, (audio,)).module()(audio), layer(audio))
    assert not layer.state_dict()


def test_silence_is_finite_and_has_a_gradient():
    silence = torch.zeros(1, RATE, requires_grad=True)
    out = LFCC()(silence)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(silence.grad).all()


def test_max_feature_map():
    x = torch.tensor([1.0, 5.0, -2.0, -3.0]).view(1, 4, 1, 1)
    assert MaxFeatureMap()(x).flatten().tolist() == [5.0, -2.0]


def test_embedding_is_the_mean_of_what_goes_into_the_lstms_and_comes_out():
    torch.manual_seed(0)
    encoder = create_encoder("lfcc_lcnn").eval()
    (x,) = encoder.example_inputs(2)
    with torch.inference_mode():
        maps = encoder.convolutions(encoder.cepstrum(x).unsqueeze(1))
        assert maps.shape == (2, 32, 3, 25)  # a sixteenth of 60 rows and of 401 frames
        steps = maps.reshape(2, 96, 25).permute(2, 0, 1)
        expected = torch.stack([encoder.lstm(steps)[0], steps]).sum(dim=0).mean(dim=0)
        torch.testing.assert_close(encoder.embed(x), expected)


def test_prediction_does_not_import_torchaudio():
    code = (
        "import sys, torch; from avdetect.encoders import create_encoder; e = create_encoder('lfcc_lcnn').eval(); "
        "e(*e.example_inputs(1)); sys.exit('torchaudio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_learns_what_is_in_a_spectrum():
    """White noise against noise without its upper half: a few steps are enough."""
    torch.manual_seed(0)
    encoder = create_encoder("lfcc_lcnn", window_s=0.5).train()
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-3)

    def batch():
        x = 0.1 * torch.randn(16, 8000)
        x[:8] = torch.fft.irfft(torch.fft.rfft(x[:8]) * (torch.arange(4001) < 2000), 8000)
        return x, (torch.arange(16) < 8).float()

    for _ in range(40):
        x, label = batch()
        loss = F.binary_cross_entropy_with_logits(encoder(x), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, label = batch()
    with torch.inference_mode():
        assert torch.equal(encoder.eval()(x) > 0, label.bool())
