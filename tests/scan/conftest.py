"""A detector of voices with random weights, and sets of voices for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from avdetect.data import Manifest
from avdetect.encoders import create_encoder
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, save_bundle
from avdetect.media import ClipSettings

CLIPS = 24


@pytest.fixture(scope="session")
def voice_bundle(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    encoders = {"audio": create_encoder("mel_cnn_tiny").eval()}
    band = {"real_below": 0.4, "fake_above": 0.6}
    made = Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), ClipSettings(),
        {name: Calibration("platt", 30.0, 0.0) for name in ("fused", "audio")},
        {name: band for name in ("fused", "audio")},
        {"name": "voices", "datasets": ["Elsewhere"], "warnings": [], "training_data": ["Elsewhere  audio"],
         "selected_on": "validation"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("voices") / "bundle"
    save_bundle(made, folder)
    return folder


def _write_voices(folder: Path, name: str, seed: int, count: int = CLIPS, seconds: float = 1.0) -> Path:
    """Noise of two colours with silence before it; two files that cannot be read, one that is not there."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        label = k % 2
        noise = rng.normal(0, 0.2, round(16000 * seconds))
        sound = np.concatenate([np.zeros(4000), np.cumsum(noise) / 10 if label else noise])
        soundfile.write(folder / f"{k:03d}.wav", sound / np.abs(sound).max() / 2, 16000)
        rows.append({
            "path": f"{k:03d}.wav", "label": label, "audio_label": label, "split": "test" if k > 1 else "train",
            "source": f"s{k // 2}", "method": "brown" if label else None, "dataset": name,
            "quality": "high" if k % 4 < 2 else "low", "fancy": f"f{k % 3}",
        })  # fmt: skip
    for k, content in (("bad", b"no sound"), ("gone", None)):
        if content is not None:
            (folder / f"{k}.wav").write_bytes(content)
        rows.append({"path": f"{k}.wav", "label": 1, "split": "test", "source": k, "dataset": name})
    Manifest(pd.DataFrame(rows), root=folder).check().write(folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def write_voices():
    return _write_voices


@pytest.fixture(scope="session")
def voices(tmp_path_factory) -> Path:
    return _write_voices(tmp_path_factory.mktemp("sets") / "voices", "Voices", 0)


@pytest.fixture(scope="session")
def others(tmp_path_factory) -> Path:
    return _write_voices(tmp_path_factory.mktemp("sets") / "others", "Others", 1)


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures take most of the time: only fixtures of a module, made before this one, draw them."""
    monkeypatch.setattr("avdetect.scan.evaluate.draw_all", lambda *_: {})
