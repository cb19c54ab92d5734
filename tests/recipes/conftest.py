"""A detector that several tests of the recipes judge with."""

import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, save_bundle
from avdetect.media import ClipSettings

SIDE = 64


@pytest.fixture(scope="session")
def genuine_bundle(tmp_path_factory):
    """A detector of all modalities with random weights, for what is made of `genuine_only`'s."""
    torch.manual_seed(0)
    encoders = {
        "visual": create_encoder("efficientnet_autoatt_tiny", size=SIDE).eval(),
        "audio": create_encoder("mel_cnn_tiny").eval(),
        "lipsync": create_encoder("lipsync_tiny").eval(),
    }
    names = ("fused", *encoders)
    made = Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), ClipSettings(crop_size=SIDE),
        {name: Calibration("identity") for name in names},
        {name: {"real_below": 0.4, "fake_above": 0.6} for name in names},
        {"name": "random"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    save_bundle(made, folder)
    return folder
