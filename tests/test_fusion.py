import numpy as np
import pytest
import torch

from avdetect.errors import WeightsError
from avdetect.fusion import FusionHead, logit_of_log_complement, stack_features

DIMS = {"visual": (2, 3), "audio": (2, 4), "lipsync": (5, 2)}


def features(visual=None, audio=None, lipsync=None):
    given = {"visual": visual, "audio": audio, "lipsync": lipsync}
    return {
        name: None
        if logit is None
        else (np.full(DIMS[name][0], logit, np.float32), np.zeros(DIMS[name][1], np.float32))
        for name, logit in given.items()
    }


def fuse(head, *rows):
    with torch.inference_mode():
        return head(stack_features(list(rows), head.modalities, DIMS))[0].sigmoid()


def test_starts_as_noisy_or():
    head = FusionHead(DIMS).eval()
    p = 1 / (1 + np.exp([-1.0, 0.5, 2.0]))
    joint = 1 / (1 + np.exp(4.0))
    expected = 1 - np.prod(1 - p) * (1 - joint)
    assert fuse(head, features(1.0, -0.5, -2.0)).item() == pytest.approx(expected, abs=1e-6)


def test_a_missing_modality_drops_out():
    head = FusionHead(DIMS).eval()
    for alone in ("visual", "audio", "lipsync"):
        assert fuse(head, features(**{alone: 0.7})).item() == pytest.approx(1 / (1 + np.exp(-0.7)), abs=1e-6)


def test_missing_values_have_no_influence():
    head = FusionHead(DIMS).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    batch = stack_features([features(visual=0.3, audio=1.0)], head.modalities, DIMS)
    changed = {**batch, "lipsync": torch.full_like(batch["lipsync"], 123.0)}
    assert torch.equal(head(batch)[0], head(changed)[0])


def test_one_suspicious_part_is_enough():
    head = FusionHead(DIMS).eval()
    genuine, voice_fake = fuse(head, features(-4, -4, -4), features(-4, 5, -4))
    assert genuine < 0.1 and voice_fake > 0.98


def test_nothing_to_judge_is_minus_infinity():
    head = FusionHead(DIMS).eval()
    logit = head(stack_features([features()], head.modalities, DIMS))[0]
    assert logit.item() == -torch.inf


def test_one_modality_passes_the_logit_on():
    head = FusionHead({"visual": (2, 3)}).eval()
    logit = head(stack_features([features(visual=1.25)], ["visual"], DIMS))[0]
    assert logit.item() == pytest.approx(1.25)


def test_a_head_without_modalities_is_refused():
    with pytest.raises(WeightsError, match="at least one modality"):
        FusionHead({})


@pytest.mark.parametrize("p", [1e-12, 1e-6, 0.3, 0.5, 0.99, 1 - 1e-7])
def test_logit_of_log_complement(p):
    x = torch.tensor([np.log1p(-p)], dtype=torch.float64, requires_grad=True)
    logit = logit_of_log_complement(x)
    logit.sum().backward()
    assert logit.item() == pytest.approx(np.log(p) - np.log1p(-p), rel=1e-8, abs=1e-9)
    assert torch.isfinite(x.grad).all()


def test_what_is_surely_genuine_keeps_value_and_gradient_finite():
    x = torch.tensor([0.0, -1e-40, -1e-30], requires_grad=True)
    logit = logit_of_log_complement(x)
    logit.sum().backward()
    assert (logit < -60).all() and torch.isfinite(logit).all() and torch.isfinite(x.grad).all()
