import numpy as np
import pytest
import torch

from avdetect.errors import ConfigError
from avdetect.transforms import PairPreprocess, VisualPreprocess


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def test_each_crop_comes_with_the_one_before_it(crops):
    pairs, single = PairPreprocess(12), VisualPreprocess(12)(crops)
    out = pairs(crops)
    assert out.shape == (4, 2, 3, 12, 12) and out.dtype == torch.float32
    assert torch.equal(out[:, 0], single)
    assert torch.equal(out[1:, 1], single[:-1])
    assert torch.equal(out[0, 1], single[1])  # the first has no predecessor: its successor


def test_given_predecessors_are_taken(crops):
    out = PairPreprocess(16)(crops[:2], crops[2:])
    assert torch.equal(out[:, 1], VisualPreprocess(16)(crops[2:]))
    with pytest.raises(ValueError, match=r"\(1, 16, 16, 3\) does not go with \(2, 16, 16, 3\)"):
        PairPreprocess(16)(crops[:2], crops[:1])


def test_a_single_crop_is_its_own_predecessor_and_none_gives_none(crops):
    out = PairPreprocess(16)(crops[:1])
    assert torch.equal(out[:, 0], out[:, 1])
    assert PairPreprocess(16)(crops[:0]).shape == (0, 2, 3, 16, 16)


def test_settings_round_trip_and_frames_are_no_setting():
    pairs = PairPreprocess(64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert PairPreprocess.from_dict(pairs.to_dict()) == pairs
    assert pairs.to_dict().keys() == VisualPreprocess().to_dict().keys()
    assert (PairPreprocess.frames, VisualPreprocess.frames) == (2, 1)
    with pytest.raises(ConfigError, match="PairPreprocess has no setting frames"):
        PairPreprocess.from_dict({"frames": 2})
