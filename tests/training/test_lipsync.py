"""What lip-sync learns from: losses against sums by hand, and that a small network learns the bond of both."""

import numpy as np
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.encoders.lipsync import evidence
from avdetect.errors import ConfigError
from avdetect.training.lipsync import SyncEvidenceTask, aligned, offset_loss, window_contrast


def test_window_contrast_is_infonce_without_neighbours_and_silence():
    torch.manual_seed(0)
    n, w = 2, 5
    pairs = torch.randn(n, w, n, w, dtype=torch.float64)
    speech = torch.ones(n, w)
    speech[1, 4] = 0
    moved = torch.tensor([0, -1])
    expected = {"lips": [], "sound": []}
    rights = [(c, i, i + int(moved[c])) for c in range(n) for i in range(w) if 0 <= i + int(moved[c]) < w]
    rights = [(c, i, u) for c, i, u in rights if speech[c, u]]
    for c, i, u in rights:
        others = [
            float(pairs[c, i, d, v]) for d in range(n) for v in range(w)
            if speech[d, v] and not (d == c and abs(v - u) == 1)
        ]  # fmt: skip
        expected["lips"].append(np.log(np.exp(others).sum()) - float(pairs[c, i, c, u]))
        others = [
            float(pairs[d, j, c, u]) for d in range(n) for j in range(w)
            if not (d == c and abs(j + int(moved[c]) - u) == 1)
        ]  # fmt: skip
        expected["sound"].append(np.log(np.exp(others).sum()) - float(pairs[c, i, c, u]))
    wanted = 0.5 * (np.mean(expected["lips"]) + np.mean(expected["sound"]))
    assert float(window_contrast(pairs, speech, moved)) == pytest.approx(wanted, rel=1e-6)
    silent = window_contrast(pairs.requires_grad_(), torch.zeros(n, w), moved)
    assert silent == 0 and silent.requires_grad


def test_offset_loss_is_the_cross_entropy_of_the_offset_and_its_neighbours():
    logits = torch.tensor([[0.0, 1.0, 2.0, 0.5, 9.0], [3.0, 1.0, 0.0, 0.0, 0.0]])
    weights = torch.tensor([[5.0, 10.0, 10.0, 10.0, 1.0], [10.0, 10.0, 10.0, 10.0, 10.0]])
    logs = [torch.log_softmax(logits[0, :4], 0), torch.log_softmax(logits[1], 0)]
    first = -(0.15 * logs[0][1] + 0.7 * logs[0][2] + 0.15 * logs[0][3])
    second = -(0.85 * logs[1][0] + 0.15 * logs[1][1])  # what would lie outside is given to the end
    found = offset_loss(logits, weights, torch.tensor([2, 0]))
    assert float(found) == pytest.approx(float(first + second) / 2, rel=1e-5)
    # an offset with too little in common is no choice, and a clip whose right one is such teaches nothing
    assert float(offset_loss(logits, weights, torch.tensor([4, 0]))) == pytest.approx(float(second), rel=1e-5)


def test_a_clip_is_taken_as_late_as_it_looks_but_not_more_than_the_prior_allows():
    logits = torch.zeros(4, 21)
    logits[1, 12] = 5.0  # two frames late, sure
    logits[2, 12] = 1.0  # two frames late, not sure enough
    logits[3, 15] = 50.0  # five frames late: no recording is
    found = aligned(logits, torch.ones(4, 21), torch.tensor([10, 10, 10, 10]))
    assert found.tolist() == [10, 12, 10, 10]
    assert aligned(logits, (logits < 5).float(), torch.full((4,), 10)).tolist() == [10, 10, 10, 10]


class Spans(torch.utils.data.Dataset):
    """Square mouths that open with the loudness of noise; the sound of half of the clips is two frames late."""

    def __init__(self, count, frames, seed):
        rng = np.random.default_rng(seed)
        y = np.abs(np.mgrid[:16, :16][0] - 7.5)
        self.items = []
        for index in range(count):
            course = np.interp(np.arange(frames + 20) / 2, np.arange(60), rng.random(60))
            own, shift = 2 * (index % 2), int(rng.integers(-2, 3))
            opening = course[8 : 8 + frames, None, None]
            sound = np.repeat(course[8 - own - shift : 8 - own - shift + frames], 640)
            sound = (0.3 * sound**2 * rng.standard_normal(len(sound))).astype(np.float32)
            mouths = (0.7 - 0.5 * (y < 8 * opening)).astype(np.float32)
            self.items.append((torch.from_numpy(mouths), torch.from_numpy(sound), shift, own))

    def batch(self, places):
        mouths, sounds, shifts, _ = zip(*(self.items[i] for i in places), strict=True)
        mouths, sounds = torch.stack(mouths), torch.stack(sounds)
        frozen = mouths[:4, 5:6].expand(-1, mouths.shape[1], -1, -1)
        return {
            "mouths": torch.cat([mouths, frozen]),
            "waveform": torch.cat([sounds, sounds[:4]]),
            "shift": torch.tensor([*shifts, 0, 0, 0, 0]),
            "fake": torch.tensor([0] * len(places) + [1] * 4),
            "clip": torch.arange(len(places) + 4),
        }


@pytest.mark.slow
def test_a_small_network_learns_offsets_of_recordings_that_are_not_in_step():
    torch.manual_seed(0)
    encoder = create_encoder("lipsync_small", channels=(8, 8, 12, 16), dim=32, mouth_size=16, dropout=0.0)
    task = SyncEvidenceTask(encoder, None, None)
    data, rng = Spans(160, 24, 1), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=4e-3)
    encoder.train()
    for _ in range(150):
        optimizer.zero_grad()
        losses = task.step(task.model, data.batch(rng.permutation(160)[:20]))
        losses["loss"].backward()
        optimizer.step()
    encoder.eval()
    unseen = Spans(40, 40, 2)
    misses, logits = [], []
    for mouths, sound, shift, own in unseen.items:
        result = encoder.compare(mouths[None], sound[None])
        misses.append(abs(result.offset_frames - shift - own))
        logits.append(result.logit)
    assert np.mean(np.array(misses) <= 1) >= 0.9
    still = [
        encoder.compare(m[None, 5:6].expand(-1, 40, -1, -1), s[None]).logit for m, s, _, _ in unseen.items
    ]
    assert np.mean(np.array(still)[:, None] > np.array(logits)[None]) > 0.9


def test_validation_counts_offsets_and_tells_fakes():
    torch.manual_seed(0)
    encoder = create_encoder("lipsync_small", channels=(4, 4, 4, 4), dim=8, mouth_size=16).eval()
    task, batch = SyncEvidenceTask(encoder, None, None), Spans(6, 30, 3).batch(range(6))
    with torch.no_grad():
        outputs = task.predict(task.model, batch)
        whole = encoder(batch["mouths"], batch["waveform"])
    torch.testing.assert_close(outputs["logit"], whole, atol=1e-4, rtol=1e-4)
    assert outputs["clip"].tolist() == [0, 2, 4, 6, 8, 10, 13, 15, 17, 19]
    metrics = task.metrics({name: value.numpy() for name, value in outputs.items()})
    offsets = [
        encoder.compare(m[None], s[None]).offset_frames
        for m, s in zip(batch["mouths"][:6], batch["waveform"][:6], strict=True)
    ]
    assert metrics["offset"] == pytest.approx(np.mean(np.abs(offsets) <= 1))
    assert metrics["surprise"] > 0 and 0 <= metrics["auc"] <= 1
    assert metrics["loss"] > metrics["surprise"]


@pytest.mark.parametrize(("frames", "shift", "speech"), [(10, 5, 1.0), (12, -5, 1.0), (30, 0, 0.0)])
def test_spans_that_cannot_be_judged_teach_nothing_instead_of_spoiling_the_weights(frames, shift, speech):
    """So short, or so silent, that no curve of a genuine clip has five windows in common near its offset."""
    torch.manual_seed(0)
    encoder = create_encoder("lipsync_small", channels=(4, 4, 4, 4), dim=8, mouth_size=16)
    task = SyncEvidenceTask(encoder, None, None)
    ((mouths, sound, _, _),) = Spans(1, frames, 3).items
    batch = {
        "mouths": mouths.expand(2, -1, -1, -1), "waveform": speech * sound.expand(2, -1),
        "shift": torch.tensor([shift, 0]), "fake": torch.tensor([0, 1]),
    }  # fmt: skip
    losses = task.step(task.model, batch)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_encoders_without_evidence_are_refused():
    with pytest.raises(ConfigError, match="encoder/lipsync=lipsync_small"):
        SyncEvidenceTask(create_encoder("lipsync_tiny"), None, None)


def test_all_losses_reach_the_weights():
    torch.manual_seed(0)
    encoder = create_encoder("lipsync_small", channels=(4, 4, 4, 4), dim=8, mouth_size=16)
    task = SyncEvidenceTask(encoder, None, None)
    losses = task.step(task.model, Spans(8, 24, 3).batch(range(8)))
    assert set(losses) == {"loss", "offset", "contrast", "head"}
    losses["loss"].backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert evidence.SCALARS == encoder.classifier[0].in_features
