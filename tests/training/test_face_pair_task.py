import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.data.face_pairs import CHANNELLED, GENUINE, LABELLED, PSEUDO
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.training import BinaryLoss
from avdetect.training.face_pair_task import FacePairTask, PairWeights, clip_means, map_loss


def encoder():
    torch.manual_seed(0)
    return create_encoder(
        "resnet_autoatt_small", size=32, stem=4, widths=(4, 8, 8), depths=(1, 1, 1), dropout=0.0
    )


def task(weights, network=None):
    return FacePairTask(network or encoder(), None, None, BinaryLoss(), weights)


def batch(pairs=4):
    generator = torch.Generator().manual_seed(1)
    change = torch.zeros(2 * pairs, 4, 4)
    change[1::2, 1:3, 1:3] = 1.0
    return {
        "x": torch.randn(2 * pairs, 3, 32, 32, generator=generator),
        "label": torch.tensor([0, 1] * pairs),
        "change": change,
        "known": torch.tensor([True, False] + [True] * (2 * pairs - 2)),
    }


def test_losses_are_those_that_are_weighed():
    one = task(PairWeights(change=0.5, rank=0.25))
    parts = one.step(one.model, batch())
    logits, change = one.model(batch()["x"])
    assert torch.allclose(parts["bce"], F.binary_cross_entropy_with_logits(logits, batch()["label"].float()))
    assert torch.allclose(parts["rank"], F.softplus(logits[::2] - logits[1::2]).mean())
    assert torch.allclose(parts["change"], map_loss(change, batch()["change"], batch()["known"]))
    assert torch.allclose(parts["loss"], parts["bce"] + 0.5 * parts["change"] + 0.25 * parts["rank"])
    alone = task(PairWeights(change=0.0))
    assert set(alone.step(alone.model, batch())) == {"loss", "bce"}


def test_the_map_learns_where_a_face_was_changed():
    one = task(PairWeights(change=1.0))
    data = batch()
    data["x"][1::2, :, 8:24, 8:24] += 3.0
    optimizer = torch.optim.Adam(one.model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        parts = one.step(one.model, data)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["change"].item())
    assert losses[-1] < 0.6 * losses[0]


def test_unknown_maps_do_not_count():
    logits, change = torch.randn(3, 2, 2), torch.rand(3, 2, 2)
    known = torch.tensor([True, False, True])
    expected = F.binary_cross_entropy_with_logits(logits[[0, 2]], change[[0, 2]])
    assert torch.allclose(map_loss(logits, change, known), expected)
    assert float(map_loss(logits, change, torch.zeros(3, dtype=torch.bool))) == 0.0
    with pytest.raises(ConfigError, match=r"map has \(2, 2\) cells where \(3, 3\) are taught"):
        map_loss(logits, torch.rand(3, 3, 3), known)


def outputs(rows):
    clip, origin, label, logit = (np.array(column, dtype=np.float32) for column in zip(*rows, strict=True))
    return {"clip": clip, "origin": origin, "label": label, "logit": logit}


def test_metrics_compare_like_with_like():
    rows = [(0, GENUINE, 0, -2), (0, GENUINE, 0, 0), (0, LABELLED, 1, 1), (0, CHANNELLED, 0, 3), (0, PSEUDO, 1, 2),
            (1, GENUINE, 0, 2), (1, LABELLED, 1, 5), (1, CHANNELLED, 0, 3), (1, PSEUDO, 1, 4)]  # fmt: skip
    clip, origin, label, logit = clip_means(outputs(rows))
    assert clip.tolist() == [0] * 4 + [1] * 4 and logit[origin == GENUINE].tolist() == [-1.0, 2.0]
    one = task(PairWeights())
    metrics = one.metrics(outputs(rows))
    assert metrics["auc_labelled"] == 0.75 and metrics["auc_pseudo"] == 0.5 and metrics["auc"] == 0.625
    p = 1 / (1 + np.exp(-logit))
    assert metrics["loss"] == pytest.approx(-np.mean(np.log(np.where(label == 1, p, 1 - p))))
    foreign = one.metrics(outputs([*rows, (2, GENUINE, 0, -9), (2, CHANNELLED, 0, 0), (2, PSEUDO, 1, 9)]))
    assert (
        foreign["auc_labelled"] == 0.75
    )  # a clip without a labelled fake is not compared with those of others
    bare = one.metrics(outputs([row for row in rows if row[1] in (CHANNELLED, PSEUDO)]))
    assert set(bare) == {"loss", "auc", "auc_pseudo"} and bare["auc"] == 0.5


def test_an_encoder_without_a_map_learns_from_labels_alone():
    plain = create_encoder("meso4", size=32)
    with pytest.raises(ConfigError, match="meso4 has no attention map that could be taught"):
        task(PairWeights(), plain)
    one = task(PairWeights(change=0.0), plain)
    assert set(one.step(one.model, batch())) == {"loss", "bce"}
    data = batch() | {"clip": torch.zeros(8), "origin": torch.zeros(8)}
    one.model.eval()
    with torch.inference_mode():
        assert torch.equal(one.predict(one.model, data)["logit"], plain(data["x"]))


def test_weights_are_checked():
    with pytest.raises(ConfigError, match="the weight rank of pairs of faces is -1: it must be 0 or more"):
        PairWeights(rank=-1)
