"""Configurations of encoders and trainings, and the methods of training as a recipe runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from avdetect.encoders import create_encoder, list_encoders, load_encoder
from avdetect.errors import ConfigError
from avdetect.media import ClipSettings
from avdetect.recipes import CONFIG_DIR
from avdetect.recipes.encoders import _try_out, fit_settings, start_encoder
from avdetect.recipes.pipeline import run_recipe
from avdetect.recipes.run_folder import open_run
from avdetect.recipes.tasks import _loaders, _objective, encoder_task, visual_method
from avdetect.training import Adversarial, BinaryLoss
from avdetect.training.history import History
from avdetect.transforms import AudioAugment, LipSyncAugment, VisualAugment

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
ENCODERS = sorted(
    path.relative_to(CONFIG_DIR).as_posix() for path in Path(CONFIG_DIR).glob("encoder/*/*.yaml")
)
TRAININGS = sorted(path.stem for path in Path(CONFIG_DIR).glob("train/*.yaml") if path.stem != "base")
PUBLISHED = {
    "visual": {
        "efficientnet_b4", "efficientnet_b4_st", "efficientnet_autoatt_b4", "efficientnet_autoatt_b4_st",
        "xception", "xception_st", "meso4", "mesoinception4", "baseline_cnn", "custom_cnn", "efficientnet_b0",
        "mobilenetv3_small", "resnet50", "densenet121", "vgg16", "vit_b16", "hybrid", "ucf", "ssim",
    },
    "audio": {"mel_cnn", "lfcc_lcnn", "rawnet2", "aasist", "aasist_l"},
    "lipsync": {"lipsync", "syncnet"},
}  # fmt: skip


def composed(*overrides, recipe="dfdc_fusion"):
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose(f"recipe/{recipe}", list(overrides))
    return OmegaConf.to_container(config, resolve=True)


def test_every_published_network_has_a_configuration():
    for kind, names in PUBLISHED.items():
        assert names <= {Path(name).stem for name in ENCODERS if name.startswith(f"encoder/{kind}/")}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_s_configuration_fits_the_registry(name):
    _, kind, stem = name.removesuffix(".yaml").split("/")
    config = composed(f"encoder/{kind}={stem}")
    chosen = config["encoder"][kind]
    assert chosen["name"] in list_encoders(kind)
    assert chosen["weights"] is None and chosen["published"] is None
    with torch.device("meta"):
        encoder = create_encoder(chosen["name"], **chosen["settings"])
    if kind == "visual":
        assert chosen["crop_size"] == encoder.preprocess.size
    clip = ClipSettings(**config["clip"])
    if kind == "lipsync":
        wanted = encoder.preprocess.clip_settings
        assert {key: getattr(clip, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_s_configuration_is_complete_and_valid(name):
    train = composed(f"train={name}")["train"]
    for stage in ("visual",) if name == "faces" else ("visual", "audio", "lipsync", "fusion"):
        assert fit_settings(train[stage]["fit"], 0).epochs > 0 and train[stage]["batch"] > 0
    visual_method(train["visual"])
    for stage in ("visual", "audio"):
        _objective(train[stage])
    for stage, augment in (("visual", VisualAugment), ("audio", AudioAugment), ("lipsync", LipSyncAugment)):
        if (
            train[stage]["augment"] is None
        ):  # pairs go through a channel of their own, tested where it is made
            assert train[stage]["pseudo"]["channel"] is not None
        else:
            augment.from_dict(train[stage]["augment"])


def of(name, stage="visual"):
    train = composed(f"train={name}")["train"][stage]
    return train, fit_settings(train["fit"], 0)


def test_published_values():
    train, fit = of("ispl")
    assert (fit.optimizer, fit.lr, fit.schedule, fit.plateau_patience) == ("adam", 1e-5, "plateau", 10)
    assert (train["batch"], train["batches_per_epoch"], fit.lr_stop, fit.weight_decay) == (32, 500, 1e-10, 0)
    train, fit = of("ispl_siamese")
    triplet = fit_settings(train["triplet"]["fit"], 0)
    assert train["method"] == "siamese" and (train["triplet"]["margin"], train["triplet"]["batch"]) == (1, 12)
    assert triplet.epochs * train["triplet"]["batches_per_epoch"] == 60_000
    assert fit.epochs * train["batches_per_epoch"] == 5_000 and (fit.optimizer, fit.lr) == ("adam", 1e-5)
    train, fit = of("ssim_zoo")
    assert (fit.optimizer, fit.lr, fit.patience) == ("adam", 1e-3, 50)
    assert _objective(train) == (BinaryLoss("focal", gamma=2, alpha=0.25), None)
    train, fit = of("ucf")
    assert (fit.optimizer, fit.lr, fit.weight_decay, train["batch"]) == ("adam", 2e-4, 5e-4, 32)
    assert composed("train=ucf", "encoder/visual=ucf")["encoder"]["visual"]["crop_size"] == 256
    train, fit = of("aasist", "audio")
    assert (fit.optimizer, fit.lr, fit.weight_decay, fit.lr_min) == ("adam", 1e-4, 1e-4, 5e-6)
    assert (fit.schedule, fit.epochs, train["batch"]) == ("cosine", 100, 24)
    assert _objective(train)[0].class_weights == (0.9, 0.1)  # of genuine, of fake
    assert round(16000 * train["window_s"]) == 64_600
    train, fit = of("mesonet")
    assert (fit.optimizer, fit.lr, train["loss"]) == ("adam", 1e-3, {"name": "mse"})


def test_objectives_are_chosen_by_name():
    settings = {"smoothing": 0.1, "loss": {"name": "focal"}, "adversarial": {"name": "fgsm", "weight": 1.0}}
    assert _objective(settings) == (BinaryLoss("focal", 0.1), Adversarial("fgsm", weight=1.0))
    assert _objective({"smoothing": 0.0}) == (BinaryLoss(), None)


def test_a_run_from_before_a_setting_existed_is_continued(tmp_path):
    config = composed(f"runs={tmp_path}")
    older = json.loads(json.dumps(config))
    for stage in ("visual", "audio"):
        for key in ("loss", "adversarial", "sampling"):
            assert older["train"][stage].pop(key) is None
    assert older["train"]["visual"].pop("method") is None
    for kind in ("visual", "audio", "lipsync"):
        assert older["encoder"][kind].pop("published") is None
    first, _ = open_run(older, "test")
    again, continues = open_run(config, "test")
    assert continues and again.path == first.path
    other = composed(f"runs={tmp_path}", "train.visual.method=siamese")
    assert other["train"]["visual"]["method"] == "siamese"
    with pytest.raises(ConfigError, match="another configuration"):
        open_run(other | {"run_dir": str(first.path)}, "test")


def test_two_starting_points_are_refused():
    config = {"name": "meso4", "weights": "a.safetensors", "published": "b.h5", "settings": {}}
    with pytest.raises(ConfigError, match="meso4 has both weights and published"):
        start_encoder(config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"settings": {"weights": "x"}}, "stands beside settings"),
        ({"published": 5}, "published of meso4 is 5: it must be the path"),
        ({"weights": 5}, "weights is 5: it must be a path"),
    ],
)
def test_a_wrong_starting_point_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        start_encoder({"name": "meso4", "weights": None, "settings": {}} | changes)


def test_a_network_that_cannot_judge_its_inputs_is_refused():
    with pytest.raises(ConfigError, match="xception_tiny cannot judge inputs .*size=3.* change the settings"):
        _try_out(create_encoder("xception_tiny", size=3))
    encoder = create_encoder("xception_tiny", size=64)
    state = torch.get_rng_state()
    _try_out(encoder)
    assert torch.equal(state, torch.get_rng_state())  # or a run would depend on it


@pytest.mark.parametrize(
    ("modality", "changes", "sentence"),
    [
        ("audio", {"method": "siamese"}, "train.audio has no setting method; it knows adversarial"),
        ("visual", {"methods": 1}, "train.visual has no setting methods"),
        ("lipsync", {"loss": None}, "train.lipsync has no setting loss"),
    ],
)
def test_settings_that_a_modality_does_not_have_are_refused(modality, changes, sentence):
    train = composed()["train"][modality] | changes
    with pytest.raises(ConfigError, match=sentence):
        encoder_task(modality, None, None, train, 0)


def test_siamese_training_needs_its_figures():
    with pytest.raises(
        ConfigError, match="needs the figures of train.visual.triplet: add train=ispl_siamese"
    ):
        visual_method({"method": "siamese"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"batch": 0}, "batch is 0"), ({"batches_per_epoch": 0}, "batches_per_epoch is 0"),
     ({"loader_workers": -1}, "loader_workers is -1")],
)  # fmt: skip
def test_batches_of_nothing_are_refused(changes, sentence):
    settings = {"batch": 4, "batches_per_epoch": None, "loader_workers": 0} | changes
    with pytest.raises(ConfigError, match=f"{sentence}: it must be a whole number"):
        _loaders(None, None, settings, 0)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="use supervised, siamese or ucf"):
        visual_method({"method": "contrastive"})


# -- recipes over a few still faces ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A manifest of 48 pictures: genuine ones are smooth, fakes of two methods carry stripes."""
    folder, rng, rows = tmp_path_factory.mktemp("faces"), np.random.default_rng(0), []
    for index in range(48):
        fake, method = index % 2, ("rows", "columns")[index // 2 % 2]
        x = np.linspace(0, 1, 64)
        image = 90 + 60 * rng.random() * x[:, None, None] + 60 * rng.random(3) * x[None, :, None]
        image = np.broadcast_to(image, (64, 64, 3)) + rng.normal(0, 4, (64, 64, 3))
        if fake:
            stripes = 12 * (np.arange(64) % 2)
            image = image + (stripes[:, None, None] if method == "rows" else stripes[None, :, None])
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:02}.png")
        split = "train" if index < 24 else "val" if index < 36 else "test"
        rows.append(
            {"path": f"{index:02}.png", "kind": "image", "label": fake, "split": split, "dataset": "stripes"}
            | {"method": method if fake else None}
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def common(faces, folder):
    """Overrides of all runs over the pictures."""
    return [
        f"data.root={faces}", f"runs={folder}", f"data.work_dir={faces.parent}", "workers=0",
        "clip.pictures=face", "train.visual.crops_per_clip=1", "train.visual.batch=12",
    ]  # fmt: skip


def run(faces, folder, *overrides):
    """The visual recipe over the pictures: run folder, metrics, lines of the history."""
    done = run_recipe(composed(*common(faces, folder), *overrides, recipe="dfdc_visual"))
    metrics = json.loads((done.path / "metrics.json").read_text())
    return done, metrics, History(done.path / "history.jsonl").rows()


TINY = ("encoder.visual.name=xception_tiny", "encoder.visual.settings.size=64")


def test_published_weights_are_judged_as_they_are(faces, tmp_path):
    """Index to test without training; the weights of the bundle are those of the publisher's file."""
    torch.manual_seed(7)
    theirs = create_encoder("ucf_tiny", size=64).state_dict()
    published = {key.replace("shared_block.", "block_sha.conv2d."): value for key, value in theirs.items()}
    assert published.keys() != theirs.keys()
    torch.save(published, tmp_path / "theirs.pth")
    done, metrics, history = run(
        faces, tmp_path, "encoder.visual.name=ucf_tiny", "encoder.visual.settings.size=64",
        f"encoder.visual.published={tmp_path / 'theirs.pth'}", "train.visual.fit.epochs=0",
    )  # fmt: skip
    said = metrics["stages"]["visual"]
    assert said["note"] == "not trained: the weights were kept as they were given" and said["epochs"] == 0
    assert said["start"] == str(tmp_path / "theirs.pth") and 0 <= said["validation"]["auc"] <= 1
    assert history == [] and not (done.path / "tensorboard").exists()
    assert metrics["n_clips"] == 12 and (done.path / "bundle" / "card.json").exists()
    kept = load_encoder(done.path / "checkpoints" / "visual.safetensors").state_dict()
    assert all(torch.equal(kept[key], value) for key, value in theirs.items())


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the published files are not here")
def test_a_publisher_s_file_through_the_recipe(faces, tmp_path):
    file = SHARED / "weights" / "Meso4_DF.h5"
    _, metrics, _ = run(
        faces,
        tmp_path,
        "encoder/visual=meso4",
        f"encoder.visual.published={file}",
        "train.visual.fit.epochs=0",
    )
    assert metrics["stages"]["visual"]["start"] == str(file)
    assert metrics["stages"]["visual"]["encoder"] == "meso4"


def test_siamese_training_through_the_recipe(faces, tmp_path):
    fit = "{epochs: 2, lr: 1.0e-3, warmup: 0, monitor: -loss}"
    done, metrics, history = run(
        faces, tmp_path, *TINY, "train.visual.method=siamese", "train.visual.fit.epochs=3",
        f"+train.visual.triplet={{batch: 4, batches_per_epoch: 3, margin: 1.0, fit: {fit}}}",
    )  # fmt: skip
    assert [row["stage"] for row in history] == ["visual-triplet"] * 2 + ["visual"] * 3
    assert history[0]["steps"] == 3
    said = metrics["stages"]["visual"]
    assert said["triplet"]["epochs"] == 2 and set(said["triplet"]["validation"]) == {"loss", "ordered"}
    features = torch.load(done.path / "checkpoints" / "visual-triplet" / "best.pt", weights_only=True)[
        "model"
    ]
    final = torch.load(done.path / "checkpoints" / "visual" / "best.pt", weights_only=True)["model"]
    for key, value in final.items():
        assert torch.equal(features[f"encoder.{key}"], value) != key.startswith("classifier."), key


def test_ucf_training_through_the_recipe(faces, tmp_path):
    _, metrics, history = run(
        faces, tmp_path, "encoder.visual.name=ucf_tiny", "encoder.visual.settings.size=64",
        "+encoder.visual.settings.methods=3",
        "train.visual.method=ucf", "train.visual.fit.epochs=1", "train.visual.pair_by_source=false",
    )  # fmt: skip
    assert {"train/shared", "train/specific", "train/reconstruction", "train/contrast"} <= set(history[0])
    assert metrics["stages"]["visual"]["encoder"] == "ucf_tiny"


def test_ucf_with_a_loss_of_another_method_ends_with_a_sentence(faces, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(faces, tmp_path, *TINY, "train.visual.method=ucf", "train.visual.loss={name: focal}")
    assert "train.visual.method=ucf has losses of its own" in capsys.readouterr().err


def test_options_of_the_loop_through_the_recipe(faces, tmp_path):
    _, metrics, history = run(
        faces, tmp_path, *TINY, "train.visual.fit.epochs=2", "train.visual.loss={name: focal}",
        "train.visual.adversarial={name: fgsm, epsilon: 0.008}", "+train.visual.fit.layer_decay=0.8",
        "+train.visual.fit.freeze=[backbone.conv1]", "+train.visual.fit.optimizer=adam",
        "train.visual.sampling=shuffled",
    )  # fmt: skip
    assert {"train/clean", "train/adversarial"} <= set(history[0]) and metrics["stages"]["visual"][
        "epochs"
    ] == 2


def test_an_unknown_sampling_ends_with_a_sentence(faces, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(faces, tmp_path, *TINY, "train.visual.sampling=random")
    assert "unknown sampling 'random': use balanced or shuffled" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_in_every_way(faces, tmp_path):
    """Two real processes on the CPU: triplets, a head on frozen features, and attacks."""
    fit = "{epochs: 2, lr: 1.0e-3, warmup: 0, monitor: -loss}"
    overrides = [
        *common(faces, tmp_path), *TINY, "train.visual.method=siamese", "train.visual.fit.epochs=2",
        f"+train.visual.triplet={{batch: 4, batches_per_epoch: 4, margin: 1.0, fit: {fit}}}",
        "train.visual.adversarial={name: pgd, steps: 2}",
    ]  # fmt: skip
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "avdetect.recipes.dfdc_visual", *overrides],
        env={**os.environ, "PYTHONPATH": str(Path(CONFIG_DIR).parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "dfdc_visual").iterdir()
    rows = History(path / "history.jsonl").rows()
    assert [row["stage"] for row in rows] == ["visual-triplet"] * 2 + ["visual"] * 2
    assert "train/adversarial" in rows[-1]


def test_preprocessing_that_a_network_computes_with_is_not_changed_beside_it():
    from avdetect.recipes.encoders import start_encoder

    config = {"name": "ssim(meso4)", "weights": None, "settings": {}}
    assert start_encoder({**config, "preprocess": {"clahe": True}}).preprocess.clahe
    with pytest.raises(
        ConfigError, match=r"preprocess of ssim\(meso4\) sets mean, which belong to the network"
    ):
        start_encoder({**config, "preprocess": {"mean": [0.5, 0.5, 0.5]}})
