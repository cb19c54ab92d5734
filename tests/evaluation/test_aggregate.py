import math

import numpy as np
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.aggregate import aggregate


def plain(values, how):
    """One clip, in the words of the table."""
    if how == "mean_logit":
        return sum(values) / len(values)
    if how == "mean_probability":
        p = sum(1 / (1 + math.exp(-x)) for x in values) / len(values)
        return math.log(p / (1 - p))
    if how == "max":
        return max(values)
    best = sorted(values, reverse=True)[: int(how.removeprefix("top_"))]
    return sum(best) / len(best)


@pytest.mark.parametrize("how", ["mean_logit", "mean_probability", "top_1", "top_3", "top_50", "max"])
@pytest.mark.parametrize("seed", range(4))
def test_every_rule_equals_its_words(how, seed):
    rng = np.random.default_rng(seed)
    keys, logits = rng.choice(list("cabd"), 40), rng.normal(0, 3, 40).round(1)
    clips, result = aggregate(keys, logits, how)
    assert list(clips) == list(dict.fromkeys(keys))
    for clip, value in zip(clips, result, strict=True):
        assert value == pytest.approx(plain(logits[keys == clip].tolist(), how), abs=1e-9)


def test_a_fake_face_beside_a_genuine_one_is_found_by_its_track():
    keys, tracks = ["v"] * 5 + ["w"] * 2, [0, 1, 0, 1, 1, 0, 0]
    clips, result = aggregate(keys, [-3, 2, -5, 4, 0, -1, 7], "max_track", tracks)
    assert list(clips) == ["v", "w"] and result == pytest.approx([2.0, 3.0])


def test_tracks_of_different_clips_are_apart():
    clips, result = aggregate(["a", "b", "a"], [1.0, 9.0, 3.0], "max_track", ["0", "0", "0"])
    assert dict(zip(clips, result, strict=True)) == {"a": 2.0, "b": 9.0}


def test_sure_frames_keep_a_finite_mean_probability():
    _, result = aggregate(["a", "a", "b", "b"], [900.0, 800.0, -900.0, 50.0], "mean_probability")
    assert result[0] == pytest.approx(800 + math.log(2)) and result[1] == pytest.approx(0, abs=1e-9)


def test_no_frames_give_no_clips():
    for how in ("mean_logit", "mean_probability", "top_2", "max"):
        clips, result = aggregate([], [], how)
        assert len(clips) == len(result) == 0


@pytest.mark.parametrize("how", ["median", "top_K", "top_0", "top_-1", ""])
def test_unknown_rules_are_refused(how):
    with pytest.raises(ConfigError, match="mean_logit, mean_probability, top_K, max, max_track"):
        aggregate(["a"], [0.0], how)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"], [0.0]), "2 frame keys but 1 logits"),
        ((["a", None], [0.0, 1.0]), "known and finite"),
        ((["a", "b"], [0.0, math.nan]), "known and finite"),
        ((["a"], [0.0], "max_track"), "needs tracks"),
        ((["a"], [0.0], "max", [0]), "takes no tracks"),
        ((["a", "a"], [0.0, 1.0], "max_track", [0]), "2 frames need one known track each, found 1"),
        ((["a", "a"], [0.0, 1.0], "max_track", [0, None]), "2 frames need one known track each, found 1"),
    ],
)
def test_bad_frames_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        aggregate(*arguments)
