"""Every network trains one epoch on the demo set: `pytest -m slow tests/recipes/test_every_encoder.py`, an hour."""

import copy
from itertools import islice

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from avdetect.data import read_format
from avdetect.data.demo import make_demo
from avdetect.data.prepare import PreparedSet, prepare
from avdetect.encoders import create_encoder, list_encoders, load_encoder, save_encoder
from avdetect.media import ClipSettings
from avdetect.recipes import CONFIG_DIR
from avdetect.recipes.tasks import encoder_task
from avdetect.training import FitSettings, fit
from avdetect.training.history import History

pytestmark = pytest.mark.slow

KIND = {name: kind for kind in ("visual", "audio", "lipsync") for name in list_encoders(kind)}
# A side that keeps the large networks to a minute, but for those whose layers hang on theirs.
SIZE, OWN_SIZE = 112, {"meso4": 256, "mesoinception4": 256, "ucf": 128, "ucf_tiny": 128}
LR = {"vit_b16": 3e-5, "vgg16": 1e-4, "hybrid": 2e-4, "rawnet2": 1e-4}
MEASURED = 6  # training batches on which the loss is compared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A demo set of 96 clips, prepared as asked for; each way once."""
    folder = tmp_path_factory.mktemp("every")
    make_demo(folder / "demo", clips=96, workers=2)
    manifest, done = read_format("dfdc", folder / "demo"), {}

    def get(**settings):
        key = str(sorted(settings.items()))
        if key not in done:
            target = folder / f"prepared-{len(done)}"
            prepare(manifest, target, ClipSettings(**settings), workers=2)
            done[key] = PreparedSet.open(target, manifest)
        return done[key]

    return get


def settings_of(name, kind):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("recipe/dfdc_fusion")
    settings = OmegaConf.to_container(config, resolve=True)["train"][kind]
    settings["batch"] = 4 if name == "syncnet" else 8
    if kind == "visual":
        settings |= {"crops_per_clip": 1, "val_crops": 1}
    if "ucf" in name and "(" not in name:
        settings["method"] = "ucf"
    return settings


def loss_on(task):
    """Mean training loss over the same batches, the network left as it was."""
    state = copy.deepcopy(task.model.state_dict())
    torch.manual_seed(0)
    task.set_epoch(0)
    task.model.train()
    with torch.no_grad():
        losses = [float(task.step(task.model, b)["loss"]) for b in islice(task.train_loader, MEASURED)]
    task.model.load_state_dict(state)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", list_encoders())
def test_an_epoch_on_the_demo_set_lowers_the_training_loss(name, prepared, tmp_path):
    kind = KIND[name]
    inner = name.removeprefix("ssim(").removesuffix(")")
    size = {"size": OWN_SIZE.get(inner, SIZE)} if kind == "visual" else {}
    torch.manual_seed(0)
    encoder = create_encoder(name, **size)
    clips = {"crop_size": 256}
    if name.startswith("syncnet"):
        side = encoder.preprocess.mouth_size
        clips = {"crop_size": 64, "mouth_region": "face", "mouth_colour": True, "mouth_size": side}
    task = encoder_task(kind, encoder, prepared(**clips), settings_of(name, kind), seed=0)
    before = loss_on(task)
    fit_settings = FitSettings(epochs=1, lr=LR.get(inner, 1e-3), schedule="constant", monitor="-loss")
    fit(task, fit_settings, tmp_path, History(tmp_path / "history.jsonl"))
    after = loss_on(task)
    print(f"{name}: training loss {before:.4f} -> {after:.4f}")
    assert after < before
    path = tmp_path / "weights.safetensors"
    save_encoder(encoder.eval(), path)
    inputs = encoder.example_inputs(2)
    with torch.inference_mode():
        assert torch.equal(load_encoder(path)(*inputs), encoder(*inputs))
