"""The event files of a stage, read back by TensorBoard's own reader."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util
from torch.utils.data import DataLoader

from avdetect.data.loaders import PreparedRows, collate
from avdetect.encoders import create_encoder
from avdetect.training import EncoderTask, FitSettings, fit, tensorboard
from avdetect.training.history import History
from avdetect.training.loop import watching
from avdetect.training.sampling import BalancedBatches
from avdetect.training.tensorboard import clip_scores, thumbnail

METHODS = ("swap", "swap\tof faces", None)


class Faces(PreparedRows):
    """Two pictures a clip; fakes are brighter."""

    def sample(self, index, rng):
        fixed = torch.Generator().manual_seed(index)
        truth = float(self.table["truth"][index])
        return self.item(index, x=torch.randn(2, 3, 32, 32, generator=fixed) + truth)


class Voices(PreparedRows):
    def sample(self, index, rng):
        return self.item(index, x=torch.randn(1, 32000, generator=torch.Generator().manual_seed(index)))


def make_task(kind: str, clips: int = 12) -> EncoderTask:
    methods = [METHODS[i // 2 % 3] if i % 2 else None for i in range(clips)]
    table = pd.DataFrame(
        {"key": [f"set/{i:02d}.mp4" for i in range(clips)], "truth": np.arange(clips) % 2, "method": methods}
    )
    rows = (Faces if kind == "visual" else Voices)(SimpleNamespace(folder="x"), table)
    torch.manual_seed(0)
    encoder = create_encoder("mobilenetv3_small" if kind == "visual" else "mel_cnn_tiny")
    train = DataLoader(rows, batch_sampler=BalancedBatches(rows.labels, 4, seed=0), collate_fn=collate)
    return EncoderTask(kind, encoder, train, DataLoader(rows, batch_size=5, collate_fn=collate))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visual")
    task = make_task("visual")
    settings = FitSettings(epochs=2, lr=1e-3, warmup=1, precision="no")
    result = fit(task, settings, folder / "checkpoints", History(folder / "history.jsonl"), lambda line: None)
    events = EventAccumulator(str(folder / "tensorboard" / "visual"), size_guidance={"tensors": 0})
    return SimpleNamespace(folder=folder, task=task, result=result, events=events.Reload())


def test_scalars_are_those_of_the_history(trained):
    rows = [json.loads(line) for line in (trained.folder / "history.jsonl").read_text().splitlines()]
    for name in ("train/loss", "val/loss", "val/auc", "lr"):
        read = [(event.step, event.value) for event in trained.events.Scalars(name)]
        assert [step for step, _ in read] == [1, 2]
        np.testing.assert_allclose([value for _, value in read], [row[name] for row in rows], rtol=1e-6)


def test_precision_recall_of_every_epoch(trained):
    curves = trained.events.Tensors("val/precision_recall")
    assert [event.step for event in curves] == [1, 2]
    assert "val/precision_recall" in trained.events.PluginTagToContent("pr_curves")
    tp, fp, tn, fn, precision, recall = tensor_util.make_ndarray(curves[-1].tensor_proto)
    assert (
        tp[0] == 6 and fp[0] == 6 and (tp + fn == 6).all() and (fp + tn == 6).all()
    )  # 12 clips, not 24 samples
    assert recall[0] == 1 and precision[0] == 0.5


def test_settings_stand_beside_the_best_metrics(trained):
    content = trained.events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["lr"].number_value == 1e-3 and told["epochs"].number_value == 2
    assert told["encoder"].string_value == "mobilenetv3_small" and told["batch"].number_value == 4
    (best,) = trained.events.Scalars("best/auc")
    assert best.value == pytest.approx(trained.result.metrics["auc"])
    assert trained.events.Scalars("best/epoch")[0].value == trained.result.best_epoch


def test_projector_has_the_validation_clips_by_the_best_weights(trained):
    folder = trained.folder / "tensorboard" / "visual"
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 1
    place = folder / f"{trained.result.best_epoch:05d}" / "validation"
    assert str(place.relative_to(folder) / "tensors.tsv") in config and "single_image_dim" in config
    lines = (place / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["clip", "label", "method"]
    assert [line.split("\t") for line in lines[1:5]] == [
        ["set/00.mp4", "genuine", "-"],
        ["set/01.mp4", "fake", "swap"],
        ["set/02.mp4", "genuine", "-"],
        ["set/03.mp4", "fake", "swap of faces"],
    ]
    assert lines[6].split("\t") == ["set/05.mp4", "fake", "unknown"]
    points = np.loadtxt(place / "tensors.tsv", delimiter="\t")
    encoder = trained.task.model.eval()
    with torch.inference_mode():
        expected = encoder.embed(trained.task.val_loader.dataset[3]["x"]).mean(0).numpy()
    assert points.shape == (12, encoder.embedding_dim)
    np.testing.assert_allclose(points[3], expected, atol=1e-4)
    with Image.open(place / "sprite.png") as sprite:
        assert sprite.size == (4 * 48, 4 * 48)


def test_voices_have_no_pictures_and_a_second_end_replaces_the_first(tmp_path):
    settings = FitSettings(epochs=1, lr=1e-3, precision="no")
    for _ in range(2):  # as a run killed between the end of training and of the stage
        task = make_task("audio", clips=6)
        fit(task, settings, tmp_path / "checkpoints", History(tmp_path / "history.jsonl"), lambda line: None)
    folder = tmp_path / "tensorboard" / "audio"
    assert (folder / "projector_config.pbtxt").read_text().count("embeddings {") == 1
    assert len((folder / "00001" / "validation" / "tensors.tsv").read_text().splitlines()) == 6
    assert not (folder / "00001" / "validation" / "sprite.png").exists()


def test_a_watcher_sees_every_epoch_and_may_end_the_training(tmp_path):
    seen = []

    def watcher(rows):
        seen.append([row["epoch"] for row in rows])
        if len(seen) == 2:
            raise InterruptedError

    def train():
        return fit(make_task("audio", clips=6), FitSettings(epochs=3, lr=1e-3, precision="no"),
                   tmp_path / "checkpoints", History(tmp_path / "history.jsonl"), lambda line: None)  # fmt: skip

    with pytest.raises(InterruptedError), watching(watcher):
        train()
    assert seen == [[1], [1, 2]]
    assert train().epochs == 3 and len(seen) == 2  # goes on after the second epoch; nobody watches any more


def test_clip_scores_of_every_kind_of_validation():
    outputs = {"clip": [7, 7, 9], "label": [1, 1, 0], "logit": [0.0, 2.0, -1.0]}
    labels, scores = clip_scores({key: np.array(value) for key, value in outputs.items()})
    np.testing.assert_array_equal(labels, [1, 0])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-1.0, 1.0])))
    outputs = {"clip": [0, 1], "genuine": [-1.0, -2.0], "fake": [3.0, 4.0]}
    labels, scores = clip_scores({key: np.array(value) for key, value in outputs.items()})
    np.testing.assert_array_equal(labels, [0, 1, 0, 1])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([1.0, -3.0, 2.0, -4.0])))
    assert clip_scores({"clip": np.zeros(2), "positive": np.ones(2), "negative": np.ones(2)}) is None


def test_thumbnails_are_of_the_first_frame_at_full_contrast():
    pair = torch.stack([torch.linspace(-2, 2, 3 * 64 * 64).reshape(3, 64, 64), torch.zeros(3, 64, 64)])
    picture = thumbnail(pair)
    assert picture.shape == (3, 48, 48) and picture.min() >= 0 and picture.max() <= 1
    assert picture.max() - picture.min() > 0.9
    assert torch.equal(thumbnail(torch.ones(3, 8, 8)), torch.zeros(3, 48, 48))


def test_no_more_clips_than_the_projector_bears(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "PROJECTED", 4)
    settings = FitSettings(epochs=1, lr=1e-3, precision="no")
    fit(
        make_task("audio", clips=6),
        settings,
        tmp_path / "c",
        History(tmp_path / "h.jsonl"),
        lambda line: None,
    )
    lines = (
        (tmp_path / "tensorboard" / "audio" / "00001" / "validation" / "metadata.tsv")
        .read_text()
        .splitlines()
    )
    assert [line.split("\t")[0] for line in lines[1:]] == [f"set/{i:02d}.mp4" for i in range(4)]
