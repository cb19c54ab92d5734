import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avdetect.encoders import create_encoder
from avdetect.errors import WeightsError
from avdetect.weights import read_state

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "parity").is_dir(), reason="the reference files are not here")
PUBLISHED = {
    "Meso4_DF": "meso4",
    "Meso4_F2F": "meso4",
    "MesoInception_DF": "mesoinception4",
    "MesoInception_F2F": "mesoinception4",
}


@needs_shared
@pytest.mark.parametrize("file, name", PUBLISHED.items())
def test_published_weights_give_the_published_output(file, name):
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    checkpoint, x, expected = fill.load(f"{file}.npz")
    encoder = create_encoder(name).load_published(checkpoint).eval()
    with torch.inference_mode():
        real = 1 - torch.sigmoid(encoder(x))
    torch.testing.assert_close(real, expected["probability_real"][:, 0], atol=1e-4, rtol=0)


@needs_shared
@pytest.mark.parametrize(
    "file, expected",
    [
        ("Meso4_DF", (0.0414, 0.0487, 0.9897, 0.9977)),
        ("MesoInception_DF", (0.0262, 0.0010, 1.0, 1.0)),
    ],
)
def test_published_pictures_score_as_published_and_fakes_high(file, expected):
    encoder = create_encoder(PUBLISHED[file]).eval()
    encoder.load_published(SHARED / "weights" / f"{file}.h5")
    pictures = []
    for picture in ("df00204", "df01254", "real00240", "real00772"):
        image = Image.open(SHARED / "data" / "mesonet" / f"{picture}.jpg")
        # Keras' generator takes the nearest pixel when it resizes
        pictures.append(np.asarray(image.resize((256, 256), Image.Resampling.NEAREST)))
    with torch.inference_mode():
        fake = torch.sigmoid(encoder(encoder.preprocess(np.stack(pictures))))
    np.testing.assert_allclose(1 - fake, expected, atol=1e-4)
    assert (fake[:2] > 0.9).all() and (fake[2:] < 0.1).all()


@needs_shared
def test_weights_of_the_other_network_are_refused_by_name_and_nothing_changes():
    encoder = create_encoder("meso4")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(WeightsError, match="do not fit meso4: .*unexpected .*conv2d_13.weight") as caught:
        encoder.load_published(SHARED / "weights" / "MesoInception_DF.h5")
    assert "other shapes stages.0.conv.weight (4, 3, 1, 1) instead of (8, 3, 3, 3)" in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    state = read_state(SHARED / "weights" / "Meso4_DF.h5")
    del state["dense_4/kernel"], state["dense_4/bias"]
    with pytest.raises(WeightsError, match="missing classifier.weight, classifier.bias"):
        encoder.load_published(state)
    with pytest.raises(WeightsError, match=r"other shapes dense.weight \(16, 1024\) instead of \(16, 256\)"):
        create_encoder("meso4", size=128).load_published(SHARED / "weights" / "Meso4_DF.h5")


def test_unknown_keys_are_listed():
    with pytest.raises(WeightsError, match=r"unexpected stages.0.conv.odd"):
        create_encoder("meso4").load_published({"layer/odd": torch.zeros(2)})


@pytest.mark.parametrize("name", ["meso4", "mesoinception4"])
@pytest.mark.parametrize("size, side", [(256, 8), (224, 7), (100, 4)])
def test_other_sizes_change_the_dense_layer_alone(name, size, side):
    encoder = create_encoder(name, size=size).eval()
    assert encoder.dense.in_features == side * side * 16
    (x,) = encoder.example_inputs(1)
    assert x.shape[-1] == encoder.preprocess.size == size and encoder(x).shape == (1,)


def test_branches_see_as_far_as_their_dilation():
    encoder = create_encoder("mesoinception4")
    for parameter in encoder.parameters():
        torch.nn.init.ones_(parameter)  # no ReLU closes
    x = torch.zeros(1, 3, 33, 33, requires_grad=True)
    maps = encoder.stages[0].conv(x)
    reach = []
    for channel in (0, 1, 5, 9):  # the first of each branch
        (gradient,) = torch.autograd.grad(maps[0, channel, 16, 16], x, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero()
        reach.append(int((seen.max(0).values - seen.min(0).values).max()) // 2)
    assert reach == [0, 1, 2, 3]
