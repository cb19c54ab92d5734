import numpy as np
import pytest
import torch

from avdetect.data.pseudo.face_autoencoder import (
    UPSAMPLING,
    FaceAutoencoder,
    FaceGenerators,
    load_generators,
    save_generator,
    to_input,
)
from avdetect.errors import ConfigError, DataError, WeightsError
from avdetect.training.face_generator import FaceGeneratorSettings, drawing_loss, fit_face_generators
from avdetect.weights import write_safetensors

SMALL = {"steps": 6, "batch": 4, "side": 16, "width": 4, "code": 4, "faces": 8, "keep": [0.5, 1.0]}


class Faces:
    """In place of a prepared set: genuine rows of the train split, each with one smooth crop."""

    def __init__(self, people=("anna", "bert"), count=8):
        import pandas as pd

        self.asked = []
        self.table = pd.DataFrame({
            "truth": [0] * count + [1], "subject": [people[i % len(people)] for i in range(count)] + ["carl"],
            "source": [f"s{i}" for i in range(count + 1)], "key": [f"k{i}" for i in range(count + 1)],
            "number": range(count + 1),
        })  # fmt: skip

    def rows(self, stage, split):
        assert (stage, split) == ("visual", "train")
        return self.table.copy()

    def clip_file(self, row):
        self.asked.append(row["number"])
        return _File(row["number"])


class _File:
    meta = {"tracks": [{"crops": 0}, {"crops": 1}]}

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def crop(self, track, k):
        assert (track, k) == (1, 0)  # the first track has none
        return np.full((32, 32, 3), 40 + 20 * self.number, np.uint8)


@pytest.mark.parametrize("upsampling", UPSAMPLING)
def test_network_keeps_the_shape(upsampling):
    network = FaceAutoencoder(24, upsampling, width=4, code=3)
    x = torch.rand(2, 3, 24, 24)
    for decoder in (0, 1):
        drawn = network(x, decoder)
        assert drawn.shape == x.shape and 0 <= drawn.min().item() and drawn.max().item() <= 1
    assert network.encoder(x).shape == (2, 3, 3, 3)
    assert not torch.equal(network(x, 0), network(x, 1))


def test_impossible_networks_are_refused():
    with pytest.raises(
        ConfigError, match="side 20 and upsampling 'nearest': the side must be a multiple of 8"
    ):
        FaceAutoencoder(20, "nearest")
    with pytest.raises(ConfigError, match="one of transposed, shuffle, nearest"):
        FaceAutoencoder(16, "bilinear")


def test_training_draws_faces_better_and_goes_on_where_it_stopped(tmp_path):
    said, faces = [], Faces()
    settings = SMALL | {"steps": 300, "width": 8, "code": 8, "upsampling": ["nearest"], "lr": 0.003}
    files = fit_face_generators(faces, settings, tmp_path, said.append)
    assert [file.name for file in files] == ["face-nearest-050.safetensors", "face-nearest-100.safetensors"]
    assert max(faces.asked) < 8  # fakes are not learnt from
    crops = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (60, 160)])
    torch.manual_seed(0)
    random = FaceGenerators([FaceAutoencoder(16, "nearest", 4, 4)])
    error = [
        np.abs(made.regenerate(crops, np.random.default_rng(0)).astype(int) - crops).mean()
        for made in (random, load_generators(tmp_path))
    ]
    assert error[1] < 0.7 * error[0]
    stamps = [file.stat().st_mtime_ns for file in files]
    again = fit_face_generators(
        faces, settings | {"upsampling": ["nearest", "shuffle"]}, tmp_path, said.append
    )
    assert len(again) == 4 and [file.stat().st_mtime_ns for file in files] == stamps
    assert len(load_generators(tmp_path).networks) == 4 and any("shuffle" in line for line in said)


def test_people_are_shared_out_between_the_decoders(tmp_path):
    with pytest.raises(DataError, match="genuine faces of one person alone"):
        fit_face_generators(Faces(people=("anna",)), SMALL, tmp_path, print)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="the face generators' steps is 0: it must be 1 or more"):
        FaceGeneratorSettings(steps=0)
    with pytest.raises(ConfigError, match=r"the face generators' keep is \[0.0\]: it must be parts in"):
        FaceGeneratorSettings(keep=(0.0,))
    with pytest.raises(ConfigError, match="the face generators' precision is 'fp16': use bf16 or no"):
        FaceGeneratorSettings(precision="fp16")
    with pytest.raises(ConfigError, match="no setting epochs"):
        FaceGeneratorSettings.from_dict({"epochs": 3})


def test_generators_draw_the_same_for_the_same_numbers(tmp_path):
    torch.manual_seed(0)
    for number in range(3):
        save_generator(FaceAutoencoder(16, UPSAMPLING[number], 4, 4), tmp_path / f"face-{number}.safetensors")
    made = load_generators(tmp_path)
    crops = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    first, second = (made.regenerate(crops, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == crops.shape and first.dtype == np.uint8 and np.array_equal(first, second)
    drawn = {made.regenerate(crops, np.random.default_rng(seed)).tobytes() for seed in range(30)}
    assert len(drawn) >= 6  # three networks of two decoders
    assert to_input(crops, 16).shape == (3, 3, 16, 16)


def test_folders_without_generators_are_named(tmp_path):
    with pytest.raises(
        WeightsError, match="holds no trained face generator .* run the generators stage first"
    ):
        load_generators(tmp_path)
    write_safetensors({"a": torch.zeros(1)}, tmp_path / "face-x.safetensors", {})
    with pytest.raises(WeightsError, match="is no face generator of this package"):
        load_generators(tmp_path)


def test_edges_count_in_the_loss():
    flat, edge = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    edge[..., ::2] = 0.5  # stripes: the same mean error as an even shade, but wrong between neighbours
    assert drawing_loss(edge, flat) > drawing_loss(flat + 0.25, flat)
    assert float(drawing_loss(flat, flat)) == 0.0
