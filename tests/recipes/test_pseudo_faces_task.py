import pytest

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, WeightsError
from avdetect.recipes.pseudo_tasks import face_pair_task
from avdetect.recipes.tasks import encoder_task

SETTINGS = {"batch": 4, "val_crops": 1, "loader_workers": 0, "batches_per_epoch": None, "smoothing": 0.0,
            "pseudo": {"labelled": 0.5}, "augment": None}  # fmt: skip


def make(name="resnet_autoatt_small", **settings):
    return face_pair_task(create_encoder(name), None, SETTINGS | settings, seed=0)


@pytest.mark.parametrize("name", ["augment", "method", "adversarial", "sampling", "loss"])
def test_settings_without_effect_are_refused(name):
    with pytest.raises(ConfigError, match=rf"train.visual.{name} is set, but .* set it to null"):
        make(**{name: {"flip_p": 0.5}})


def test_more_crops_of_a_clip_are_refused():
    with pytest.raises(ConfigError, match="set train.visual.crops_per_clip to 1"):
        make(crops_per_clip=2)


def test_unknown_and_wrong_settings_are_named(tmp_path):
    with pytest.raises(
        ConfigError, match="train.visual.pseudo has no setting share; it knows cache_mb, channel"
    ):
        make(pseudo={"share": 0.5})
    with pytest.raises(ConfigError, match="looks at pairs of frames"):
        make("ssim(mobilenetv3_small)")
    with pytest.raises(WeightsError, match="holds no trained face generator"):
        make(pseudo={"generators": str(tmp_path)})
    with pytest.raises(ConfigError, match="train.visual.pseudo.labelled is 2"):
        make(pseudo={"labelled": 2})


def test_tasks_take_the_pairs_where_pseudo_is_set():
    with pytest.raises(ConfigError, match="train.visual.pseudo has no setting share"):
        encoder_task(
            "visual", create_encoder("resnet_autoatt_small"), None, SETTINGS | {"pseudo": {"share": 1}}, 0
        )
