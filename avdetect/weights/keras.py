"""Weights that Keras 2 saved as HDF5 (`.h5`): reading, and the change to torch's layout.

Only data sets are read. A model description or an optimiser that the file may hold is never looked at, and
nothing outside the file is followed.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from avdetect.errors import WeightsError

# Keras' names of weights -> torch's
_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read_keras(path: Path) -> dict[str, Tensor]:
    """The arrays of a weights file or of a whole saved model, by "layer/weight", in the file's order of layers.

    Shapes are Keras': kernels (h, w, in, out) and (in, out). Raises `WeightsError` for a damaged or foreign file,
    and for one that keeps its numbers in other files.
    """
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if not isinstance(root, h5py.Group):
                raise WeightsError(f"The weights file {path} holds model_weights, which are no layers.")
            return _read_layers(root, path)
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        MemoryError,
    ) as error:  # what h5py raises, depending on the damage
        reason = str(error).split("\n")[0][:200]
        raise WeightsError(
            f"The weights file {path} is damaged or not an HDF5 file ({reason}); fetch it again."
        ) from error


def _read_layers(root: h5py.Group, path: Path) -> dict[str, Tensor]:
    datasets: dict[str, h5py.Dataset] = {}
    # visits what is in the file itself: links to elsewhere are not followed
    root.visititems(
        lambda name, item: datasets.update({name: item} if isinstance(item, h5py.Dataset) else {})
    )
    state = {}
    for layer in _names(root.attrs, "layer_names", path):
        group = root.get(layer)
        if not isinstance(group, h5py.Group):
            raise WeightsError(f"The weights file {path} lists a layer {layer} that it does not hold.")
        for weight in _names(group.attrs, "weight_names", path):
            if f"{layer}/{weight}" not in datasets:
                raise WeightsError(f"The weights file {path} lists {weight} and does not hold it.")
            key = weight if weight.startswith(f"{layer}/") else f"{layer}/{weight}"
            state[key.removesuffix(":0")] = _tensor(datasets[f"{layer}/{weight}"], path)
    if not state:
        raise WeightsError(f"The weights file {path} holds layers without any weights.")
    return state


def _names(attributes: h5py.AttributeManager, key: str, path: Path) -> list[str]:
    if key not in attributes:
        raise WeightsError(
            f"The weights file {path} is HDF5 but not as Keras 2 saves weights: it has no list {key}."
        )
    return [name.decode() if isinstance(name, bytes) else str(name) for name in attributes[key]]


def _tensor(dataset: h5py.Dataset, path: Path) -> Tensor:
    if dataset.external or dataset.is_virtual:
        raise WeightsError(
            f"The weights file {path} keeps {dataset.name} in another file, which is not read."
        )
    if dataset.dtype.kind not in "fiu":
        raise WeightsError(f"The weights file {path} holds {dataset.name}, which is not numbers.")
    values = np.array(dataset)
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))


def keras_layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{"layer/weight": array} in Keras' layout -> {layer: {name: tensor}} as torch names and lays them out.

    Kernels (h, w, in, out) become (out, in, h, w), kernels (in, out) become (out, in). Batch norms get the
    counter of batches that only torch has. Names that are not known stay as they are.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        layer, _, weight = key.rpartition("/")
        entries = layers.setdefault(layer or key, {})
        if weight == "kernel" and value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif weight == "kernel" and value.ndim == 2:
            value = value.T
        entries[_NAMES.get(weight, weight)] = value.contiguous()
        if weight == "moving_variance":
            entries["num_batches_tracked"] = torch.tensor(0)
    return layers
