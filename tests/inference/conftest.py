"""A detector of small encoders with random weights: it knows nothing, and is made in a moment."""

from pathlib import Path

import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, save_bundle
from avdetect.media import ClipSettings

ENCODERS = {"visual": "efficientnet_autoatt_tiny", "audio": "mel_cnn_tiny", "lipsync": "lipsync"}
REPORT = {
    "n_fake": 3, "n_real": 4, "reason": None,
    "roc_auc": {"value": 0.75, "low": 0.5, "high": 0.9}, "eer": {"value": 0.25, "low": 0.1, "high": 0.4},
}  # fmt: skip
NOT_MEASURED = {"n_fake": 0, "n_real": 4, "reason": "all clips are genuine"}


@pytest.fixture(scope="session")
def untrained() -> Bundle:
    torch.manual_seed(0)
    encoders = {kind: create_encoder(name).eval() for kind, name in ENCODERS.items()}
    names = ("fused", *encoders)
    card = {
        "name": "untrained", "licence": "as the training data", "training_data": ["Nothing  video  train"],
        "datasets": ["Nothing"], "seed": 0, "selected_on": "validation", "warnings": [],
        "metrics": {"split": "test", "clips": {"fused": REPORT, "lipsync": NOT_MEASURED}},
    }  # fmt: skip
    return Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), ClipSettings(),
        {name: Calibration("platt", 1.0, 0.0) for name in names},
        {name: {"real_below": 0.4, "fake_above": 0.6} for name in names}, card,
    )  # fmt: skip


@pytest.fixture(scope="session")
def untrained_folder(untrained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("untrained") / "bundle"
    save_bundle(untrained, folder)
    return folder
