from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from avdetect.data.pseudo.vocoders import Vocoder, save_generator
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.recipes.tasks import encoder_task

SETTINGS = {
    "batch": 4,
    "batches_per_epoch": 1,
    "loader_workers": 0,
    "augment": {"noise_p": 1.0},
    "fit": {"epochs": 1},
    "loss": None,
    "smoothing": 0.0,
    "adversarial": None,
    "sampling": None,
    "pair_by_source": True,
    "window_s": 1.0,
    "pseudo": {"labelled": 0.0, "rank": 0.25},
}


class Recordings:
    """Stands for a prepared set: two genuine recordings of noise in either split."""

    folder = "recordings"

    def rows(self, stage, split):
        assert stage == "audio"
        keys = [f"{split}/{i}" for i in range(2)]
        told = {"truth": 0, "source": keys, "method": None, "duration_s": 1.25}
        return pd.DataFrame({"key": keys, **told})

    @contextmanager
    def clip_file(self, row):
        rng = np.random.default_rng(len(row["key"]))
        yield SimpleNamespace(audio=lambda: 0.1 * rng.standard_normal(20000).astype(np.float32))


def task(**changes):
    encoder = create_encoder("spectrum_cnn", channels=(4, 4, 4, 4, 4), dense=4)
    return encoder_task("audio", encoder, Recordings(), {**SETTINGS, **changes}, seed=0)


def test_genuine_recordings_alone_are_enough():
    made = task(window_s=0.8)
    assert made.rank == 0.25 and made.model.preprocess.window_s == 0.8 and made.model.preprocess.hop_s == 0.4
    (batch,) = list(made.train_loader)
    assert batch["x"].shape == (4, 12800) and batch["label"].tolist() == [0, 1, 0, 1]
    losses = made.step(made.model, batch)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    outputs = [made.predict(made.model.eval(), batch) for batch in made.val_loader]
    joined = {key: torch.cat([o[key] for o in outputs]).detach().numpy() for key in outputs[0]}
    assert set(made.metrics(joined)) == {"loss", "auc", "auc_pseudo"}


def test_trained_networks_are_used(tmp_path):
    save_generator(Vocoder("istft", 16), tmp_path / "voice-istft-100.safetensors")
    made = task(pseudo={"generators": str(tmp_path)})
    assert made.train_loader.dataset.generators.names == ("voice-istft-100",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pseudo": {"labeled": 1}},
            "train.audio.pseudo has no setting labeled; it knows dirt_p, generators",
        ),
        ({"sampling": "shuffled"}, "train.audio.sampling is set, but training from pseudo-fakes"),
        ({"adversarial": {"name": "pgd"}}, "train.audio.adversarial is set, but training from pseudo-fakes"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        task(**changes)
