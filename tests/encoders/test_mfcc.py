import numpy as np
import pytest
import python_speech_features
import torch

from avdetect.encoders.lipsync.mfcc import MFCC

T = np.arange(16000) / 16000
RNG = np.random.default_rng(0)
SOUNDS = {
    "noise": RNG.normal(0, 3000, 16000),
    "tone": 20000 * np.sin(2 * np.pi * 300 * T),
    "clipped": 90000 * np.sin(2 * np.pi * 120 * T),
    "speech-like": 8000 * np.sin(2 * np.pi * 120 * T * (1 + 0.1 * T)) * np.sin(3 * T) ** 8
    + RNG.normal(0, 3, 16000),
    "nearly silent": RNG.normal(0, 1, 16000),
    "half of zeros": np.r_[np.zeros(8000), RNG.normal(0, 3000, 8000)],
}


def int16(name):
    return np.clip(np.rint(SOUNDS[name]), -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("name", SOUNDS)
def test_equals_python_speech_features(name):
    samples = int16(name)
    expected = python_speech_features.mfcc(samples, 16000).T
    got = MFCC()(torch.from_numpy(samples / 32768.0)[None])[0].numpy()
    assert got.dtype == np.float32 and got.shape == (13, 100) and expected.shape == (13, 99)
    np.testing.assert_allclose(got[:, :99], expected, atol=2e-4, rtol=1e-5)


def test_the_last_frame_reaches_over_zeros_behind_the_sound():
    samples = int16("noise")
    flat = python_speech_features.sigproc.preemphasis(samples, 0.97)
    expected = python_speech_features.mfcc(np.r_[flat, np.zeros(240)], 16000, preemph=0).T
    got = MFCC()(torch.from_numpy(samples / 32768.0)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, atol=2e-4, rtol=1e-5)


def test_digital_silence_is_finite_and_has_a_gradient():
    waveform = torch.zeros(1, 3200, requires_grad=True)
    cepstra = MFCC()(waveform)
    cepstra.sum().backward()
    assert cepstra[0, 0].tolist() == pytest.approx([np.log(np.finfo(float).eps)] * 20, rel=1e-6)
    assert torch.isfinite(cepstra).all() and torch.isfinite(waveform.grad).all()


def test_stays_in_full_precision_and_exports():
    layer, waveform = MFCC(), torch.from_numpy(int16("speech-like") / 32768.0).float()[None]
    expected = layer(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(waveform), expected, atol=1e-5, rtol=1e-5)
    program = torch.export.export(layer, (waveform,))
    torch.testing.assert_close(program.module()(waveform), expected, atol=1e-5, rtol=1e-5)
