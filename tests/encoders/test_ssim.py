import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from avdetect.encoders import create_encoder, list_encoders
from avdetect.encoders.visual.ssim import gaussian_window, ssim_map
from avdetect.errors import ConfigError
from avdetect.media import FaceTrack

NAME = "ssim(mobilenetv3_small)"


def reference_ssim(first, second):
    """SSIM of two grey images (H, W) of 0..255 by the paper's formula (13), in double precision."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()

    def blur(image):
        return correlate1d(correlate1d(image, weights, axis=0), weights, axis=1)[5:-5, 5:-5]

    x, y = first.astype(float), second.astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu_x, mu_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mu_x**2, blur(y * y) - mu_y**2
    cov = blur(x * y) - mu_x * mu_y
    return ((2 * mu_x * mu_y + c1) * (2 * cov + c2)) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))


def pictures():
    """Pairs of consecutive crops uint8 (64, 64, 3): noise, a gradient, flat bright and dark, a
    shift."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3))
    ramp = np.broadcast_to(np.arange(64)[:, None, None] * 4, (64, 64, 3))
    bright, dark = np.full((64, 64, 3), 254), np.full((64, 64, 3), 2)
    face = (127 + 60 * np.sin(np.arange(64) / 5)[:, None, None] + rng.normal(0, 8, (64, 64, 3))).clip(0, 255)
    halves = np.where(np.arange(64)[:, None, None] < 32, 4, 250) + np.zeros((64, 64, 3), int)
    pairs = [
        (halves, halves + rng.integers(-4, 5, (64, 64, 3))),
        (halves, halves[::-1]),
        (noise, rng.integers(0, 256, (64, 64, 3))),
        (ramp, ramp[::-1]),
        (bright, bright - rng.integers(0, 3, (64, 64, 3))),
        (dark, bright),
        (face, np.roll(face, 2, axis=0)),
    ]
    return [tuple(np.asarray(image, np.uint8) for image in pair) for pair in pairs]


def grey(image):
    return image.astype(float) @ np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return create_encoder(NAME, size=64).eval()


@pytest.mark.parametrize("pair", pictures())
def test_map_equals_an_independent_implementation(encoder, pair):
    first, second = pair
    with torch.inference_mode():
        ours = encoder.similarity(encoder.preprocess(first[None], second[None]))[0, 0]
    np.testing.assert_allclose(ours.numpy(), reference_ssim(grey(first), grey(second)), atol=1e-4)


def test_map_of_equal_frames_is_one_and_of_others_symmetric():
    x, y = torch.rand(2, 1, 40, 40), torch.rand(2, 1, 40, 40)
    window = gaussian_window()
    torch.testing.assert_close(ssim_map(x, x, window), torch.ones(2, 1, 30, 30))
    torch.testing.assert_close(ssim_map(x, y, window), ssim_map(y, x, window))
    assert ssim_map(x, y, window).max() < 0.9


def test_a_single_crop_has_a_map_of_ones(encoder):
    crops = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        similarity = encoder.similarity(encoder.preprocess(crops))
    torch.testing.assert_close(similarity, torch.ones(1, 1, 54, 54))


def test_the_three_branches_are_joined(encoder):
    (x,) = encoder.example_inputs(3)
    joined = []
    handle = encoder.dense[1].register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    with torch.inference_mode():
        encoder(x)
        handle.remove()
        similarity = encoder.similarity(x)
        torch.testing.assert_close(joined[0][:, :1024], encoder.face.embed(x[:, 0]))
        torch.testing.assert_close(
            joined[0][:, 1024:1088], encoder.map_network(similarity).mean(dim=(2, 3)), atol=1e-6, rtol=1e-5
        )
    values = similarity.flatten(1).numpy()
    scalars = np.stack([values.mean(1), values.var(1)], axis=1)
    np.testing.assert_allclose(joined[0][:, 1088:].numpy(), scalars, atol=1e-5)


def test_the_predecessor_counts_through_the_map_alone(encoder):
    (x,) = encoder.example_inputs(2)
    changed = x.clone()
    changed[:, 1] = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(encoder.face.embed(x[:, 0]), encoder.face.embed(changed[:, 0]))
        assert not torch.allclose(encoder(x), encoder(changed))


def test_map_keeps_full_precision_under_autocast(encoder):
    first, second = pictures()[4]  # nearly flat: half precision would lose the variances
    x = encoder.preprocess(first[None], second[None])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        reduced = encoder.similarity(x)
    np.testing.assert_allclose(reduced[0, 0].numpy(), reference_ssim(grey(first), grey(second)), atol=1e-4)


def test_a_track_is_judged_as_any_other(encoder):
    from avdetect.evidence import _judge_track

    crops = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    times = np.arange(5) * 0.25
    track = FaceTrack(0, times, np.zeros((5, 4)), np.ones(5), times, crops, 0, np.zeros((0, 6, 6), np.uint8))
    with torch.inference_mode():
        evidence = _judge_track(track, encoder)
        pair = encoder.preprocess(crops[3:4], crops[2:3])
        expected = encoder(pair).item()
    assert evidence.crop_logits.shape == (5,) and evidence.embedding.shape == (encoder.embedding_dim,)
    assert evidence.crop_logits[3] == pytest.approx(expected, abs=1e-5)


def test_settings_go_down_and_recreate_the_network():
    with torch.device("meta"):
        default = create_encoder("ssim(efficientnet_autoatt_tiny)")
        encoder = create_encoder("ssim(vgg16)", size=64, visual_settings={"dense": 32}, dense=16)
        again = create_encoder("ssim(vgg16)", **encoder.settings)
    assert default.preprocess.size == 112  # that of the visual encoder
    assert encoder.face.embedding_dim == 32 and encoder.embedding_dim == 16
    assert encoder.settings["visual_settings"] == {"dense": 32, "dropout": 0.5}
    assert encoder.preprocess.std == encoder.face.preprocess.std == (1 / 255,) * 3
    assert again.settings == encoder.settings and again.preprocess == encoder.preprocess
    with pytest.raises(ConfigError, match="mobilenetv3_small has no setting densee"):
        create_encoder(NAME, visual_settings={"densee": 1})


def test_there_is_one_for_every_visual_encoder():
    visual = [name for name in list_encoders("visual") if not name.startswith("ssim(")]
    assert set(list_encoders("visual")) == {*visual, *(f"ssim({name})" for name in visual)}
    assert not any("ssim" in name for name in list_encoders("audio") + list_encoders("lipsync"))


def test_names_and_sizes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="no encoder 'resnet51'; did you mean resnet50"):
        create_encoder("ssim(resnet51)")
    with pytest.raises(
        ConfigError, match=r"'ssim\(ssim\(resnet50\)\)': .* single frames, and ssim\(resnet50\) is none"
    ):
        create_encoder("ssim(ssim(resnet50))")
    with pytest.raises(ConfigError, match="single frames, and mel_cnn is none"):
        create_encoder("ssim(mel_cnn)")
    with pytest.raises(ConfigError, match="at least 26 pixels, not 25"):
        create_encoder(NAME, size=25)
