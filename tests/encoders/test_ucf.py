import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from avdetect.encoders import UCF, create_encoder
from avdetect.encoders.visual.ucf_decoder import adaptive_instance_norm
from avdetect.errors import ConfigError, WeightsError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
needs_reference = pytest.mark.skipif(
    not (SHARED / "parity").is_dir(), reason="the reference files are not here"
)


@pytest.fixture(scope="module")
def published():
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load("deepfakebench_ucf.npz")


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return create_encoder("ucf_tiny", size=64).eval()


def whole(parts):
    return torch.cat([parts.specific_map, parts.shared_map], dim=1)


@needs_reference
def test_equals_the_published_network(published, tmp_path):
    state, x, expected = published
    torch.save(state, tmp_path / "ucf.pth")
    encoder = create_encoder("ucf").load_published(tmp_path / "ucf.pth").eval()
    with torch.inference_mode():
        parts = encoder.disentangle(x)
        image = encoder.reconstruct(whole(parts), parts.content)
        logits = expected["logits"]
        for ours, theirs in (
            (encoder(x), logits[:, 1] - logits[:, 0]),
            (encoder.embed(x), expected["embedding"]),
            (parts.shared_logits, logits),
            (parts.shared, expected["embedding"]),
            (parts.specific_logits, expected["specific_logits"]),
            (image[..., ::8, ::8], expected["reconstruction_every_8th_pixel"]),
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert image.shape == x.shape


@needs_reference
def test_misfit_of_a_published_checkpoint_is_listed(published):
    state = dict(published[0])
    del state["head_sha.mlp.2.bias"]
    state["head_sha.mlp.9.bias"] = state["encoder_x.conv1.weight"] = torch.zeros(1)
    with pytest.raises(
        WeightsError,
        match="missing shared_head.2.bias; unexpected shared_head.9.bias, encoder_x.conv1.weight",
    ):
        UCF().load_published(state)


@needs_reference
def test_a_checkpoint_of_other_methods_says_which_layer_differs(published):
    with pytest.raises(WeightsError, match=r"specific_head.2.weight \(5, 512\) instead of \(3, 512\)"):
        UCF(methods=3).load_published(published[0])


def test_a_prediction_uses_the_shared_branch_alone(tiny):
    (x,) = tiny.example_inputs(2)
    with torch.inference_mode():
        expected = tiny(x)
        for key, parameter in tiny.named_parameters():
            if key.startswith(tiny.training_only):
                parameter.fill_(torch.nan)
        assert torch.equal(tiny(x), expected)
        for key, parameter in tiny.named_parameters():
            if not key.startswith(tiny.training_only):
                before = parameter.clone()
                parameter.fill_(torch.nan)
                assert tiny(x).isnan().all(), f"{key} makes no difference"
                parameter.copy_(before)


def test_parts_agree_with_the_prediction(tiny):
    (x,) = tiny.example_inputs(3)
    with torch.inference_mode():
        parts = tiny.disentangle(x)
        assert torch.equal(parts.shared, tiny.embed(x))
        assert torch.equal(parts.shared_logits[:, 1] - parts.shared_logits[:, 0], tiny(x))
    assert parts.content.shape == (3, 64, 2, 2)
    assert parts.specific_map.shape == parts.shared_map.shape == (3, 32, 2, 2)
    assert parts.specific.shape == (3, 32) and parts.specific_logits.shape == (3, 5)
    torch.testing.assert_close(parts.specific, parts.specific_map.mean(dim=(2, 3)))


@pytest.mark.parametrize("size", [64, 96, 160])
def test_the_reconstruction_has_the_size_of_the_image(size):
    encoder = create_encoder("ucf_tiny", size=size).eval()
    (x,) = encoder.example_inputs(2)
    with torch.inference_mode():
        parts = encoder.disentangle(x)
        image = encoder.reconstruct(whole(parts), parts.content)
    assert image.shape == x.shape and image.abs().max() <= 1


def test_content_and_fingerprint_both_count_in_a_reconstruction(tiny):
    torch.manual_seed(0)
    content, fingerprint = torch.randn(2, 64, 2, 2), 5 * torch.randn(2, 64, 2, 2)
    with torch.inference_mode():
        for parameter in tiny.decoder.parameters():
            parameter *= 2  # fresh convolutions let little through
        image = tiny.reconstruct(fingerprint, content)
        other_fingerprint = tiny.reconstruct(fingerprint.flip(0), content)
        other_content = tiny.reconstruct(fingerprint, content.flip(0))
        # of the content, its own mean and scale are lost
        torch.testing.assert_close(tiny.reconstruct(fingerprint, 3 * content + 1), image, atol=1e-4, rtol=0)
    assert (image - other_fingerprint).abs().max() > 1e-2
    assert (image - other_content).abs().max() > 1e-2


def test_instance_norm_takes_over_the_statistics():
    rng = np.random.default_rng(0)
    x, style = rng.normal(2, 3, (2, 4, 5, 5)), rng.normal(-1, 0.5, (2, 4, 5, 5))
    expected = np.empty_like(x)
    for n in range(2):
        for c in range(4):
            a, b = x[n, c], style[n, c]
            unit = (a - a.mean()) / np.sqrt(a.var(ddof=1) + 1e-5)
            expected[n, c] = unit * np.sqrt(b.var(ddof=1) + 1e-5) + b.mean()
    ours = adaptive_instance_norm(torch.tensor(x).float(), torch.tensor(style).float())
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adaptive_instance_norm(torch.tensor(x).float(), torch.tensor(style).float()), ours)


def test_dropout_acts_on_the_logits():
    """As published: in training each of the two logits is either left out or doubled (rate one half)."""
    torch.manual_seed(0)
    encoder = create_encoder("ucf_tiny", dropout=0.5)
    embedding = torch.randn(1, 32).expand(200, 32)
    with torch.inference_mode():
        genuine, fake = encoder.eval().shared_head(embedding[:1])[0].tolist()
        drawn = encoder.train().classify(embedding)
    for value in (0.0, 2 * fake, -2 * genuine, 2 * (fake - genuine)):
        assert torch.isclose(drawn, torch.tensor(value), atol=1e-6).sum() > 20
    assert len(set(drawn.tolist())) == 4


def test_input_is_scaled_to_what_the_decoder_gives(tiny):
    black_and_white = np.zeros((2, 64, 64, 3), np.uint8)
    black_and_white[1] = 255
    assert torch.equal(tiny.preprocess(black_and_white).unique(), torch.tensor([-1.0, 1.0]))


def test_sizes_and_methods_that_do_not_work_are_refused():
    for size in (32, 112, 250):
        with pytest.raises(ConfigError, match=f"size of ucf is {size} pixels.*multiple of 32 from 64 on"):
            create_encoder("ucf", size=size)
    with pytest.raises(ConfigError, match="methods of ucf_tiny is 1; .*give 2 or more"):
        create_encoder("ucf_tiny", methods=1)


def test_pretrained_starts_both_encoders_from_imagenet(monkeypatch):
    source = timm.create_model("legacy_xception")
    asked = {}
    monkeypatch.setattr(timm, "create_model", lambda name, **k: asked.update(k, name=name) or source)
    encoder = create_encoder("ucf", pretrained=True)
    assert asked == {"name": "legacy_xception", "pretrained": True}
    for xception in (encoder.fingerprint_encoder, encoder.content_encoder):
        assert torch.equal(xception.conv4.pointwise.weight, source.conv4.pointwise.weight)
    assert encoder.settings["pretrained"] is False  # what is loaded again gets its own weights
    with pytest.raises(ConfigError, match="no pretrained weights for ucf_tiny, .*leave pretrained off"):
        create_encoder("ucf_tiny", pretrained=True)
