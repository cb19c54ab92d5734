import h5py
import numpy as np
import pytest
import torch

from avdetect.errors import WeightsError
from avdetect.weights import read_state
from avdetect.weights.keras import keras_layers


def save(path, layers, root=None):
    """Write {layer: {weight: array}} as Keras 2 does; a whole model has them in a group of its own."""
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            folder = group.create_group(layer)
            folder.attrs["weight_names"] = [name.encode() for name in weights]
            for name, value in weights.items():
                folder[name] = value


LAYERS = {
    "z_conv": {"z_conv/kernel:0": np.arange(24, dtype="f4").reshape(1, 2, 3, 4), "z_conv/bias:0": np.ones(4)},
    "pool": {},
    "norm": {f"norm/{key}:0": np.full(4, i, "f4") for i, key in enumerate(("gamma", "beta", "moving_mean"))},
    "a_dense": {"inner/kernel:0": np.arange(8, dtype=">f4").reshape(4, 2)},
}


@pytest.mark.parametrize("root", [None, "model_weights"])
def test_h5_is_read_by_layer_and_weight_in_the_order_of_its_layers(tmp_path, root):
    save(tmp_path / "w.h5", LAYERS, root)
    state = read_state(tmp_path / "w.h5")
    assert list(state) == [
        "z_conv/kernel",
        "z_conv/bias",
        "norm/gamma",
        "norm/beta",
        "norm/moving_mean",
        "a_dense/inner/kernel",
    ]
    assert state["z_conv/kernel"].shape == (1, 2, 3, 4)
    assert torch.equal(
        state["a_dense/inner/kernel"], torch.arange(8.0).reshape(4, 2)
    )  # big-endian in the file


def test_layers_get_the_names_and_layout_of_torch():
    x = torch.randn(2, 5, 6, 3)
    kernel, dense = torch.randn(3, 3, 3, 7), torch.randn(7, 2)
    layers = keras_layers(
        {
            "c/kernel": kernel,
            "c/bias": torch.zeros(7),
            "n/gamma": torch.ones(7),
            "n/beta": torch.zeros(7),
            "n/moving_mean": torch.zeros(7),
            "n/moving_variance": torch.ones(7),
            "d/kernel": dense,
            "d/odd": torch.ones(1),
            "bare": torch.ones(2),
        }
    )
    assert (
        list(layers) == ["c", "n", "d", "bare"]
        and layers["n"].keys() == torch.nn.BatchNorm2d(7).state_dict().keys()
    )
    assert layers["d"].keys() == {"weight", "odd"} and layers["bare"].keys() == {"bare"}
    convolved = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), layers["c"]["weight"])
    # the definition in Keras' layout: out[i, j] = sum over h, w, c of x[i + h, j + w, c] * kernel[h, w, c]
    expected = torch.einsum("nhwc,hwco->no", x[:, 1:4, 2:5], kernel)
    torch.testing.assert_close(convolved[:, :, 1, 2], expected)
    y = torch.randn(4, 7)
    torch.testing.assert_close(torch.nn.functional.linear(y, layers["d"]["weight"]), y @ dense)


def test_a_cut_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "w.h5"
    save(path, {"d": {"d/kernel:0": np.random.default_rng(0).normal(size=(200, 200))}})
    whole = path.read_bytes()
    for content in (b"", b"hello, this is text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="w.h5 is damaged or not an HDF5 file") as caught:
            read_state(path)
        assert "\n" not in str(caught.value)
    with h5py.File(path, "w") as file:
        file["numbers"] = np.ones(3)
    with pytest.raises(
        WeightsError, match="HDF5 but not as Keras 2 saves weights: it has no list layer_names"
    ):
        read_state(path)
    save(path, {"pool": {}})
    with pytest.raises(WeightsError, match="layers without any weights"):
        read_state(path)


def test_what_is_listed_must_be_there(tmp_path):
    save(tmp_path / "w.h5", {"d": {"d/kernel:0": np.ones((2, 2))}})
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["d/d/kernel:0"]
    with pytest.raises(WeightsError, match="lists d/kernel:0 and does not hold it"):
        read_state(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        del file["d"]
    with pytest.raises(WeightsError, match="lists a layer d that it does not hold"):
        read_state(tmp_path / "w.h5")


def test_nothing_outside_the_file_is_followed(tmp_path):
    save(tmp_path / "secret.h5", {"d": {"d/kernel:0": np.ones((2, 2))}})
    (tmp_path / "secret.bin").write_bytes(np.ones(4, "f4").tobytes())
    path = tmp_path / "w.h5"
    save(path, {"d": {"d/kernel:0": np.ones((2, 2))}})
    with h5py.File(path, "r+") as file:
        del file["d/d/kernel:0"]
        file["d/d/kernel:0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/d/d/kernel:0")
        assert file["d/d/kernel:0"].shape == (2, 2)  # h5py itself would follow it
    with pytest.raises(WeightsError, match="does not hold it"):
        read_state(path)
    with h5py.File(path, "r+") as file:
        del file["d/d/kernel:0"]
        storage = [(str(tmp_path / "secret.bin"), 0, 16)]
        file["d/d"].create_dataset("kernel:0", shape=(4,), dtype="f4", external=storage)
    with pytest.raises(WeightsError, match="keeps /d/d/kernel:0 in another file"):
        read_state(path)


def test_only_numbers_are_weights(tmp_path):
    save(tmp_path / "w.h5", {"d": {"d/kernel:0": np.array(["import os"], dtype=h5py.string_dtype())}})
    with pytest.raises(WeightsError, match="/d/d/kernel:0, which is not numbers"):
        read_state(tmp_path / "w.h5")


@pytest.mark.parametrize("spoil", ["model_weights", "layer_names", "empty", "too large"])
def test_hdf5_that_is_odd_in_kind_or_size_is_one_sentence(tmp_path, spoil):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        if spoil == "model_weights":
            file.create_dataset("model_weights", data=np.zeros(3))
        else:
            file.attrs["layer_names"] = 5 if spoil == "layer_names" else [b"a"]
            file.create_group("a").attrs["weight_names"] = [b"a/w"]
            if spoil == "empty":
                file["a"].create_group("a").create_dataset("w", data=h5py.Empty("f"))
            else:  # 4 TiB that take no place in the file
                file["a"].create_group("a").create_dataset("w", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))
    with pytest.raises(WeightsError, match="no layers|damaged"):
        read_state(path)
