"""Every method on every kind of network that it claims, by the sanity checks; it is refused elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LRP
from torch import nn

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.explain import METHODS, default_method, methods_for
from avdetect.explain.checking import check_planted, table
from avdetect.explain.checks import completeness_error
from avdetect.explain.gradients import integrated
from avdetect.explain.lrp import conservation_error, relevances
from avdetect.explain.methods import choose_method
from avdetect.explain.regions import PARTS, _nearest_part, regions_of
from avdetect.explain.views import FaceView, MouthView, SpectrogramView, WaveView

NETWORKS = [
    "face",
    "mel",
    "lip",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("spectrum", "wave")),
]
REFUSED = {
    "face": {"saliency", "guided_backprop"},
    "mel": {"saliency", "guided_backprop", "attention"},
    "spectrum": {"saliency", "guided_backprop", "attention"},
    "wave": set(METHODS) - {"occlusion", "kernel_shap", "lime"},
    "lip": set(METHODS) - {"occlusion", "kernel_shap", "lime"},
}


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_claimed_passes_the_checks(network, planted, trained):
    """On networks that were trained to find an artefact, in fakes whose artefact's place is known."""
    encoder, loss = trained(network)
    assert loss < 0.35, "the network has not learnt its artefact: nothing can be said"
    rows = list(check_planted(encoder, planted(encoder)))
    assert {row.method for row in rows if row.check == "refused"} == REFUSED[network]
    for name in set(METHODS) - REFUSED[network]:
        done = {row.check for row in rows if row.method == name}
        removal = {"deletion/insertion"} if METHODS[name].evidence else set()
        assert done >= {"planted artefact", "random weights"} | removal
    failed = [row for row in rows if row.passed is False]
    assert not failed, table(failed)


def test_maps_of_an_untrained_network_do_not_pass(planted, untrained):
    """The checks can fail: without training hardly a map finds the artefact."""
    encoder = untrained("face")
    made = [replace(given, rise=9.0) for given in planted(encoder)]
    rows = list(check_planted(encoder, made, "layercam")) + list(
        check_planted(encoder, made, "integrated_gradients")
    )
    assert not all(row.passed for row in rows), table(rows)


def test_lrp_is_refused_on_swish_and_says_what_to_use():
    encoder = create_encoder("efficientnet_autoatt_tiny").eval()
    said = methods_for(encoder)
    assert said["lrp"] == (
        "no rule of relevance holds for the SiLU layers of efficientnet_autoatt_tiny: "
        "use layercam or integrated_gradients"
    )
    assert [name for name, refused in said.items() if refused] == ["saliency", "guided_backprop", "lrp"]
    with pytest.raises(ConfigError, match="lrp does not hold here: no rule .* use layercam"):
        choose_method(encoder, "lrp")
    with pytest.raises(ConfigError, match="no explanation method 'gradcm'; take one of gradcam,"):
        choose_method(encoder, "gradcm")


@pytest.mark.parametrize(
    "name",
    ["meso4", "xception_tiny", "hybrid_tiny", "ssim(meso4)", "mel_cnn", "aasist_l", "syncnet_tiny"],
)
def test_every_refusal_names_a_method_that_holds(name):
    encoder = create_encoder(name).eval()
    said = methods_for(encoder)
    assert said[default_method(encoder)] is None
    for refused in filter(None, said.values()):
        named = refused.rpartition(": use ")[2].replace(" or ", ", ").split(", ")
        assert all(said[other] is None for other in named), refused


def test_lrp_agrees_with_captum_where_captum_has_the_rule(monkeypatch):
    """On a chain of modules without biases, where the gamma rule with 0 is captum's epsilon rule with 0."""
    monkeypatch.setattr("avdetect.explain.lrp.GAMMA", 0.0)
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 2, 3, bias=False),
        nn.ReLU(),
    ]
    network = nn.Sequential(*layers, nn.Conv2d(2, 1, 4, bias=False)).eval()

    class Logit(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x)[:, 0, 0, 0]

    x = torch.randn(1, 3, 14, 14)
    relevance, biases, logits = relevances(FaceView(Logit()), x)
    assert conservation_error(relevance, biases, logits) < 1e-4 and float(biases) == 0.0
    assert torch.allclose(
        relevance, LRP(network).attribute(x.clone(), target=(0, 0, 0)), atol=1e-3, rtol=1e-2
    )


@pytest.mark.parametrize("name", ["meso4", "xception_tiny", "resnet_autoatt_small"])
def test_lrp_conserves_the_logit(name):
    torch.manual_seed(0)
    encoder = create_encoder(name).eval()
    (x,) = encoder.example_inputs(1)
    assert conservation_error(*relevances(FaceView(encoder), x)) < 0.01


def test_integrated_gradients_add_up(untrained):
    encoder = untrained("mel")
    view = SpectrogramView(encoder)
    with torch.no_grad():
        x = encoder.front(*encoder.example_inputs(1))
        ends = float(view(x)), float(view(view.baseline(x)))
    assert completeness_error(integrated(view, x), *ends) < 0.01


def test_methods_leave_the_network_as_it_was(untrained):
    encoder = untrained("face")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (x,) = encoder.example_inputs(1)
    for name, method in METHODS.items():
        one, two = (method.run(FaceView(encoder), x) for _ in range(2))
        assert one.shape == (1, *x.shape[-2:]) and torch.equal(one, two), (
            f"{name} gives another map every time"
        )
        assert method.signed or float(one.min()) >= 0
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in encoder.parameters())
    assert not encoder.training and not any(m._forward_hooks for m in encoder.modules())


def test_regions_are_parts_of_a_face_or_pieces_of_a_sound(untrained):
    marks = np.array([[30, 35], [66, 35], [48, 55], [34, 72], [62, 72]], np.float32)
    parts = _nearest_part(marks, 96)
    assert parts[35, 30] != parts[35, 66] != parts[72, 48] and parts[73, 46] == parts[71, 50]
    assert 10 <= len(np.unique(parts)) <= len(PARTS)
    assert _nearest_part(np.zeros((5, 2), np.float32), 96) is None
    face, sound, lips = (untrained(kind) for kind in ("face", "mel", "lip"))
    (x,) = face.example_inputs(1)  # noise is no face: superpixels
    found = regions_of(FaceView(face), x)
    assert found.shape == x.shape[-2:] and 20 <= len(found.unique()) <= 36
    found = regions_of(SpectrogramView(sound), sound.front(*sound.example_inputs(1)).detach())
    assert len(found.unique()) == 64 and int(found.max()) == 63
    view = MouthView(lips, *lips.example_inputs(1))
    found = regions_of(view, view.whole())
    assert len(found.unique()) == 10 and (found.diff() >= 0).all()


def test_views_of_whole_inputs_are_the_network(untrained):
    """What a view says of all that is there is what the encoder says."""
    wave, lips = untrained("wave"), untrained("lip")
    window = 0.1 * torch.randn(1, wave.preprocess.window_samples)
    heard = WaveView(wave, window)
    mouths, sound = lips.example_inputs(1)
    seen = MouthView(lips, mouths, sound)
    with torch.no_grad():
        assert torch.allclose(heard(heard.whole()), wave(window), atol=1e-3)
        assert torch.allclose(seen(seen.whole()), lips(mouths, sound), atol=1e-4)
        quiet = heard.baseline(heard.whole())
    assert 0.0 <= float(quiet.min()) < 0.9 and float(quiet.max()) == 1.0
