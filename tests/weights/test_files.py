import hashlib
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from avdetect.errors import WeightsError
from avdetect.weights import (
    in_half_precision,
    load_strict,
    read_metadata,
    read_state,
    sha256_file,
    write_safetensors,
)


def test_sha256(tmp_path):
    content = b"avdetect" * 300_000  # more than one block
    (tmp_path / "f").write_bytes(content)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_safetensors_round_trip_with_metadata(tmp_path):
    state = {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "b": torch.tensor(3)}
    path = tmp_path / "deep" / "w.safetensors"
    write_safetensors(state, path, {"name": "x"})
    assert read_metadata(path) == {"name": "x"}
    read = read_state(path)
    assert read.keys() == state.keys() and all(torch.equal(read[k], state[k]) for k in state)
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors({"a": torch.zeros(1)}, path, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_safetensors({"a": torch.ones(1)}, path, {"name": object()})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_only_safetensors_is_written(tmp_path):
    with pytest.raises(WeightsError, match=r"written as .safetensors, not w.pth"):
        write_safetensors({}, tmp_path / "w.pth", {})


@pytest.mark.parametrize("wrapper", [None, "net", "state_dict", "model"])
def test_pth_is_read_and_unwrapped(tmp_path, wrapper):
    state = {"layer.weight": torch.randn(2, 2)}
    torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, tmp_path / "w.pth")
    assert torch.equal(read_state(tmp_path / "w.pth")["layer.weight"], state["layer.weight"])


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path, legacy):
    content = {"w": torch.zeros(1), "x": Attack(tmp_path / "broken_in")}
    if legacy:
        (tmp_path / "w.pth").write_bytes(pickle.dumps(content["x"], protocol=2))
    else:
        torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="never run.*mkdir") as caught:
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "broken_in").exists()
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("w.safetensors", b"not a safetensors file", "damaged"),
        ("w.safetensors", b"", "damaged"),
        ("w.pth", b"", "damaged"),
        ("w.pth", b"hello, this is text", "damaged"),
        ("w.pth", b"PK\x03\x04 cut off", "damaged"),
        ("w.zip", b"", "ends in '.zip', which cannot be read; expected .safetensors, .pth, .*, .h5, .hdf5"),
    ],
)
def test_bad_files_give_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_state(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_pth_is_damaged(tmp_path):
    torch.save({"w": torch.randn(5000)}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        read_state(tmp_path / "w.pth")


def test_missing_file(tmp_path):
    for read in (read_state, read_metadata):
        with pytest.raises(WeightsError, match="does not exist"):
            read(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "content, message",
    [
        (torch.zeros(2), "holds no state_dict but a Tensor"),
        ({}, "an empty mapping"),
        ({"w": torch.zeros(1), "epoch": 3}, "entries that are not tensors: epoch"),
    ],
)
def test_pth_without_a_plain_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        read_state(tmp_path / "w.pth")


def test_misfit_lists_every_kind_of_problem_and_changes_nothing():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = module[0].weight.clone()
    state = {"0.weight": torch.zeros(2, 2), "1.weight": torch.zeros(3, 3), "other": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        load_strict(module, state, "w.pth")
    message = str(caught.value)
    assert "weights from w.pth do not fit Sequential" in message
    assert (
        "missing 0.bias, 1.bias; unexpected other; other shapes 1.weight (3, 3) instead of (1, 2)" in message
    )
    assert torch.equal(module[0].weight, before)


def test_long_lists_are_counted():
    with pytest.raises(WeightsError, match="unexpected k0, k1, k2, k3, k4 and 15 more"):
        load_strict(nn.Identity(), {f"k{i}": torch.zeros(1) for i in range(20)}, "here")


def test_the_same_content_gives_the_same_bytes(tmp_path):
    state = {"a": torch.arange(3.0), "b": torch.ones(2)}
    metadata = {name: name for name in ("name", "settings", "preprocess", "more")}
    for number in range(8):
        write_safetensors(state, tmp_path / f"{number}.safetensors", metadata)
    assert len({sha256_file(tmp_path / f"{number}.safetensors") for number in range(8)}) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value * float("nan"),
        lambda value: value.to(torch.complex64),
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: "text",
    ],
    ids=["nan", "complex", "sparse", "meta", "text"],
)
def test_weights_that_are_no_finite_real_numbers_are_refused(spoil):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    state = {key: value.detach() for key, value in nn.Linear(3, 2).state_dict().items()}
    with pytest.raises(WeightsError, match="weight hold something else than finite real numbers"):
        load_strict(module, state | {"weight": spoil(state["weight"])}, "w.pth")
    assert torch.equal(module.weight, before)


def test_a_damaged_pickle_is_one_sentence_whatever_torch_raises(tmp_path):
    path = tmp_path / "w.pth"
    # protocol 2, the top of an empty stack: an IndexError within torch
    path.write_bytes(b"\x80\x02.")
    with pytest.raises(WeightsError, match="damaged"):
        read_state(path)


@pytest.mark.parametrize("text", ["{", "[1]", '"name"'])
def test_metadata_that_is_no_object_is_not_taken_for_some(tmp_path, text):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"avdetect": text})
    if text == "{":
        with pytest.raises(WeightsError, match="damaged"):
            read_metadata(path)
    else:
        assert read_metadata(path) == {}


def test_half_precision_keeps_what_it_can_not_hold():
    torch.manual_seed(0)
    state = {
        "kernel": torch.randn(8, 4, 3, 3),
        "zeros": torch.zeros(3, 3),
        "bias": torch.randn(8),
        "running_var": torch.full((8,), 1e-9),
        "count": torch.tensor([[3]]),
        "large": torch.tensor([[1e5, 1.0]]),
        "tiny": torch.full((4, 4), 1e-9),
        "coarse": torch.full((4, 4), 1.1e-7),  # float16 has steps of 6e-8 there
        "one tiny": torch.tensor([[1.0, 1e-9]]),  # nothing that counts beside the other
    }
    halved = in_half_precision(state)
    assert {name for name, value in halved.items() if value.dtype == torch.float16} == {
        "kernel",
        "zeros",
        "one tiny",
    }
    assert all(
        torch.equal(halved[name], state[name]) for name in state if halved[name].dtype != torch.float16
    )
    change = torch.linalg.vector_norm(halved["kernel"].float() - state["kernel"])
    assert 0 < change < 4.9e-4 * torch.linalg.vector_norm(state["kernel"])
