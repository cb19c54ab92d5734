"""Reading and writing of weight files without ever running code that a file brings along."""

import json
import os
import pickle
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from avdetect.errors import WeightsError
from avdetect.weights.keras import read_keras

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".model")
KERAS_SUFFIXES = (".h5", ".hdf5")
WRAPPERS = (
    "net",
    "state_dict",
    "model",
    "model_state_dict",
)  # where publishers' checkpoints keep the weights
METADATA_KEY = "avdetect"
HALF_ERROR = (
    1e-3  # of a tensor's norm; float16 rounds by at most 2^-11 = 4.9e-4 where nothing under- or overflows
)
NAMED_KEYS = 5  # how many keys an error message lists before it counts the rest


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, PyTorch or Keras file, on the CPU, by key.

    PyTorch files are read with `weights_only=True`; one level of wrapping ("net", "state_dict", …) is undone.
    Keras' arrays are keyed "layer/weight" and keep Keras' shapes (see `keras_layers`).
    Raises `WeightsError` for a missing, damaged or foreign file, and for one that would need pickle.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"The weights file {path} does not exist; give the path of a file on this machine."
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    if path.suffix in KERAS_SUFFIXES:
        return read_keras(path)
    expected = ", ".join((".safetensors", *TORCH_SUFFIXES, *KERAS_SUFFIXES))
    raise WeightsError(
        f"The weights file {path} ends in '{path.suffix}', which cannot be read; expected {expected}."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"The weights file {path} is damaged ({error}); fetch or save it again."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # the rest of torch's message advises to switch the check off: it is not passed on
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        blocked = f"it calls for {match[1]}" if match else "not a plain list of tensors"
        raise WeightsError(
            f"The weights file {path} is damaged or holds more than tensors, and code in weights is never run"
            f" ({blocked}); save its plain state_dict instead."
        ) from error
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        reason = re.split(r"\n|\. ", str(error))[0][:200] or type(error).__name__
        raise WeightsError(
            f"The weights file {path} is damaged or not a PyTorch file ({reason}); fetch it again."
        ) from error
    if isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"The weights file {path} holds no state_dict but {_describe(content)}.")
    foreign = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise WeightsError(
            f"The weights file {path} holds entries that are not tensors: {_some(foreign)}; "
            "save its plain state_dict instead."
        )
    return {str(key): value for key, value in content.items()}


def _describe(content: object) -> str:
    return "an empty mapping" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `module`; every key and shape must fit, else a `WeightsError` names all misfits.

    `source` names the origin of the weights in the message. Values must be finite real numbers.
    """
    own = module.state_dict()
    problems = []
    state = {
        key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in state.items()
    }
    if odd := [key for key, value in state.items() if not _usable(value)]:
        raise WeightsError(
            f"The weights from {source} cannot be used: {_some(odd)} hold something else than finite real numbers;"
            " fetch or save them again."
        )
    if missing := [key for key in own if key not in state]:
        problems.append(f"missing {_some(missing)}")
    if unexpected := [key for key in state if key not in own]:
        problems.append(f"unexpected {_some(unexpected)}")
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if shapes:
        problems.append(f"other shapes {_some(shapes)}")
    if problems:
        network = getattr(module, "name", type(module).__name__)
        raise WeightsError(f"The weights from {source} do not fit {network}: {'; '.join(problems)}.")
    module.load_state_dict(dict(state), strict=True)


def _usable(value: object) -> bool:
    """Whether a value of a state_dict is a tensor of numbers that a network can compute with."""
    if not isinstance(value, Tensor) or value.is_complex() or value.is_meta or value.layout != torch.strided:
        return False
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - NAMED_KEYS
    return ", ".join(names[:NAMED_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def in_half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with kernels and matrices as float16, to halve a file.

    Vectors (biases, the statistics of batch normalisation, whose variances may lie below what float16 holds) and
    integers stay as they are: they weigh little. So does a tensor that rounding, overflow (above 65504) or
    underflow (below 6e-8) would change by more than `HALF_ERROR` of its norm.
    """
    return {key: _halved(value) for key, value in state.items()}


def _halved(value: Tensor) -> Tensor:
    if value.dtype != torch.float32 or value.ndim < 2:
        return value
    half = value.half()
    change = torch.linalg.vector_norm(half.double() - value.double())
    # an overflow makes the change infinite; `not <=` also keeps what holds NaN, for the reader to refuse
    fits = bool(change <= HALF_ERROR * torch.linalg.vector_norm(value.double()))
    return half if fits else value


def write_safetensors(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata (anything that JSON holds) to a `.safetensors` file, beside it first and then renamed.

    The same content gives the same bytes: the metadata goes into one entry of the header, as safetensors writes
    several entries in random order.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"Weights are written as .safetensors, not {path.name}; give a name that ends so.")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    os.close(handle)
    try:
        safetensors.torch.save_file(tensors, temporary, {METADATA_KEY: json.dumps(dict(metadata))})
        # mkstemp creates the file for its owner alone; weights are shared like any other file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What `write_safetensors` was given as metadata; empty where the file is not one of its own."""
    if not Path(path).is_file():
        raise WeightsError(
            f"The weights file {path} does not exist; give the path of a file on this machine."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            content = json.loads((stream.metadata() or {}).get(METADATA_KEY, "{}"))
            return content if isinstance(content, dict) else {}
    except (safetensors.SafetensorError, ValueError) as error:
        raise WeightsError(
            f"The weights file {path} is damaged ({error}); fetch or save it again."
        ) from error
