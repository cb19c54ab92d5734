import math

import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.encoders.audio.spectrum_cnn import SpectrumMaps
from avdetect.errors import ConfigError

RATE = 16000


@pytest.fixture(scope="module")
def noise():
    return torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))


def tone(hertz, seconds=0.5):
    return torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)[None]


def test_shapes_and_choice_of_maps(noise):
    assert SpectrumMaps(512, 128, ("level", "advance", "delay"))(noise).shape == (2, 5, 256, 126)
    assert SpectrumMaps(256, 64, ("delay",))(noise).shape == (2, 2, 128, 251)
    with pytest.raises(
        ConfigError, match=r"maps of a spectrum are \['phase'\]: choose some of level, advance"
    ):
        SpectrumMaps(512, 128, ("phase",))
    with pytest.raises(ConfigError, match="choose some of"):
        SpectrumMaps(512, 128, ())


def test_the_advance_of_a_tone_tells_its_distance_from_the_bin():
    bin_hz, hop = RATE / 512, 128
    for offset in (0.0, 5.0, -5.0):  # Hz beside the centre of bin 32
        maps = SpectrumMaps(512, hop, ("advance",))(tone(32 * bin_hz + offset))[0, :, 32, 10:-10]
        angle = torch.atan2(maps[1], maps[0])
        torch.testing.assert_close(
            angle, torch.full_like(angle, 2 * math.pi * offset * hop / RATE), atol=0.02, rtol=0
        )


def test_the_delay_of_a_click_tells_where_it_is_in_the_frame():
    sound = torch.zeros(1, RATE // 2)
    sound[0, 40 * 128 + 32] = 20.0  # 32 samples after the middle of frame 40
    maps = SpectrumMaps(512, 128, ("delay",))(sound)[0, :, 20:200, 40]
    angle = torch.atan2(maps[1], maps[0])
    torch.testing.assert_close(angle, torch.full_like(angle, -2 * math.pi * 32 / 512), atol=1e-3, rtol=0)


def test_level_forgets_a_constant_channel_and_silence_is_finite(noise):
    layer = SpectrumMaps(512, 128, ("level",), log_floor=1e-12)
    torch.testing.assert_close(layer(noise), layer(3 * noise), atol=1e-3, rtol=0)
    silent = torch.zeros(1, RATE, requires_grad=True)
    maps = SpectrumMaps(512, 128, ("level", "advance", "delay"))(silent)
    maps.sum().backward()
    assert maps.isfinite().all() and silent.grad.isfinite().all()


def test_loudness_and_polarity_tell_nothing(noise):
    encoder = create_encoder("spectrum_cnn").eval()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(noise), encoder(-0.01 * noise), atol=1e-3, rtol=1e-3)


def test_too_short_a_sound_is_refused(noise):
    encoder = create_encoder("spectrum_cnn").eval()
    assert encoder(noise[:, : encoder.min_samples]).isfinite().all()
    with pytest.raises(ValueError, match="spectrum_cnn needs at least"):
        encoder(noise[:, : encoder.min_samples - 1])
