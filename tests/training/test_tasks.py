import numpy as np
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.fusion import FusionHead
from avdetect.training import FitSettings, FusionTask, fit
from avdetect.training.history import History
from avdetect.training.losses import binary_loss, sync_contrast
from avdetect.training.sampling import BalancedBatches, ShuffledBatches
from avdetect.training.tasks import SHIFTS, LipSyncTask, clip_metrics, thin


def test_balanced_batches_alternate_and_follow_from_the_epoch():
    labels = np.array([0] * 10 + [1] * 50)
    sampler = BalancedBatches(labels, 8, seed=0)
    first = list(sampler)
    assert len(first) == len(sampler) == 13
    drawn = np.concatenate(first)
    assert all(labels[np.array(batch) % 60].tolist() == [0, 1] * 4 for batch in first)
    assert set(drawn % 60) == set(range(60))
    assert len(set(drawn)) == len(drawn)  # drawn again, a clip has another index
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_paired_batches_join_real_and_fake_of_one_source():
    labels = np.array([0, 1, 1, 0, 1, 0])
    groups = np.array(["a", "a", "a", "b", "b", "c"])
    pairs = [
        tuple(np.array(batch) % 6) for batch in BalancedBatches(labels, 2, seed=0, batches=200, groups=groups)
    ]
    assert all(labels[real] == 0 and labels[fake] == 1 for real, fake in pairs)
    same = [groups[real] == groups[fake] for real, fake in pairs]
    lone = [5 in pair for pair in pairs]  # group c has no fake
    assert all(s or x for s, x in zip(same, lone, strict=True))
    assert {index for pair in pairs for index in pair} == set(range(6))


def test_shuffled_batches_see_everything():
    sampler = ShuffledBatches(10, 5, seed=1)
    assert sorted(np.concatenate(list(sampler))) == list(range(10))
    assert [len(batch) for batch in ShuffledBatches(3, 16, seed=1)] == [3]


def test_binary_loss_reference():
    logits, labels = torch.tensor([2.0, -1.0]), torch.tensor([1, 0])
    expected = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))])
    assert binary_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    assert binary_loss(logits, labels, 0.2) > binary_loss(logits, labels)


def test_sync_contrast_prefers_the_same_time():
    torch.manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(3, 10, 16), dim=2)
    assert sync_contrast(v, v) < 0.2
    assert sync_contrast(v, v.roll(4, dims=1)) > 3.0
    neighbour = v.clone()
    neighbour[:, 1:] = v[:, :-1]
    # the pair one window away is no negative, so its similarity costs nothing
    assert sync_contrast(v, 0.7 * v + 0.3 * neighbour) < 0.3


def test_clip_metrics_average_the_samples_of_a_clip():
    clips = np.array([7, 7, 9, 9])
    metrics = clip_metrics(clips, np.array([0, 0, 1, 1]), np.array([-3.0, 1.0, 2.0, -1.0]))
    p = 1 / (1 + np.exp(-np.array([-1.0, 0.5])))
    assert metrics["auc"] == 1.0
    assert metrics["loss"] == pytest.approx(-np.mean([np.log(1 - p[0]), np.log(p[1])]))


def test_thinned_clips_are_blamed_only_for_what_is_left():
    torch.manual_seed(0)
    n = 400
    batch = {
        "mask": torch.ones(n, 3, dtype=torch.bool),
        "own": torch.tensor([[1.0, 0.0, 0.0]]).repeat(n, 1),
        "label": torch.ones(n),
    }
    mask, label = thin(batch, 0.5)
    assert mask.any(1).all()
    assert torch.equal(label, mask[:, 0].float())
    assert 0.3 < mask[:, 0].float().mean() < 0.8


def test_clips_of_unknown_parts_are_shown_whole():
    torch.manual_seed(0)
    batch = {
        "mask": torch.ones(50, 3, dtype=torch.bool),
        "own": torch.full((50, 3), torch.nan),
        "label": torch.ones(50),
    }
    mask, label = thin(batch, 0.5)
    assert mask.all() and (label == 1).all()


def test_out_of_sync_examples_are_the_sound_of_another_moment():
    encoder = create_encoder("lipsync_tiny")
    task = LipSyncTask(encoder, None, None, seed=0)
    n, t, context, per_frame = 6, 20, SHIFTS[1], encoder.preprocess.samples_per_frame
    frame_of_sample = torch.arange((t + 2 * context) * per_frame) // per_frame
    waveform = torch.stack([1000 * row + frame_of_sample for row in range(n)]).float()
    _, in_sync, other = task._pairs(
        {"mouths": torch.zeros(n, t, 4, 4), "waveform": waveform}, torch.Generator().manual_seed(1)
    )
    assert torch.equal(in_sync[:, 0], 1000.0 * torch.arange(n) + context)
    source, frame = other[:, 0] // 1000, other[:, 0] % 1000
    shift = (frame - context).abs()
    assert ((shift >= SHIFTS[0]) & (shift <= SHIFTS[1])).all()
    assert source.tolist() == [1, 1, 2, 4, 4, 5]


def test_fusion_continues_exactly(tmp_path):
    """Its clips make several batches, so that their order counts."""
    dims = {"visual": (2, 8), "audio": (2, 8)}

    def features(count, seed):
        generator = torch.Generator().manual_seed(seed)
        label = (torch.rand(count, generator=generator) > 0.5).float()
        parts = {name: torch.randn(count, 10, generator=generator) + 0.7 * label[:, None] for name in dims}
        mask = torch.ones(count, 2, dtype=torch.bool)
        return {**parts, "mask": mask, "label": label, "own": torch.stack([label, label], 1)}

    class Stop(Exception):
        pass

    def train(folder, stop_in_epoch=None):
        torch.manual_seed(0)
        task = FusionTask(FusionHead(dims), features(150, 1), features(50, 2), 32, 0.25)

        def set_epoch(epoch):
            if epoch == stop_in_epoch:
                raise Stop

        task.set_epoch = set_epoch
        history = History(folder / "history.jsonl")
        return fit(
            task, FitSettings(epochs=5, lr=1e-2), folder / "checkpoints", history, lambda line: None
        ).metrics

    whole = train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "stopped", stop_in_epoch=2)
    assert train(tmp_path / "stopped") == whole
