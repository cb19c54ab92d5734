"""What TensorBoard shows of a stage: scalars and precision-recall curves by epoch, its outcome, its embeddings.

All of it is of the training and validation sets; the test set is not seen here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import expit
from torch.nn import functional as F

from avdetect.data.face_pairs import FacePairDataset
from avdetect.data.loaders import PreparedRows
from avdetect.data.voice_pairs import VoicePairDataset
from avdetect.encoders import Encoder
from avdetect.training.settings import FitSettings

if TYPE_CHECKING:
    from avdetect.training.loop import Task

PROJECTED = 2000  # clips shown in the projector: it becomes slow beyond
THUMBNAIL = 48  # pixels
PROJECTOR_FILE = "projector_config.pbtxt"  # named by TensorBoard


class TensorBoard:
    """The event files of one stage, in a folder of its own."""

    def __init__(self, folder: Path):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self.folder = folder
        self.writer = SummaryWriter(folder)

    def epoch(self, row: dict[str, Any], outputs: dict[str, np.ndarray]) -> None:
        """row: as in `history.jsonl`; outputs: what validation gathered (`Task.predict`), on the clips of one epoch."""
        for key, value in row.items():
            if key != "stage":
                self.writer.add_scalar(key, value, row["epoch"])
        judged = clip_scores(outputs)
        if judged is not None:
            self.writer.add_pr_curve("val/precision_recall", *judged, global_step=row["epoch"])

    def outcome(
        self, task: Task, settings: FitSettings, metrics: dict[str, float], epoch: int, device: torch.device
    ) -> None:
        """Settings beside the metrics of the best epoch, and the embeddings that its weights give."""
        parameters = {"epochs": settings.epochs} | {
            key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in settings.to_dict().items()
        }
        encoder = getattr(task.model, "encoder", task.model)  # tasks wrap it to make several passes in one
        if isinstance(encoder, Encoder):
            parameters["encoder"] = encoder.name
        if task.train_loader.batch_sampler is not None:
            parameters["batch"] = task.train_loader.batch_sampler.batch_size
        best = {f"best/{key}": float(value) for key, value in metrics.items()} | {"best/epoch": epoch}
        self.writer.add_hparams(parameters, best, run_name=".")  # into this folder, no other below it
        if isinstance(encoder, Encoder) and encoder.kind in ("visual", "audio"):
            judged = task.val_loader.dataset
            # not of pairs: their items hold genuine and fake samples of a clip
            if isinstance(judged, PreparedRows) and not isinstance(
                judged, FacePairDataset | VoicePairDataset
            ):
                self._project(encoder, task, epoch, device)

    @torch.inference_mode()
    def _project(self, encoder: Encoder, task: Task, epoch: int, device: torch.device) -> None:
        """One point a validation clip: the mean of its samples' embeddings, with a thumbnail of the first face."""
        encoder.eval()
        table = task.val_loader.dataset.table
        sums: dict[int, torch.Tensor] = {}
        counts: dict[int, int] = {}
        pictures: dict[int, torch.Tensor] = {}
        for batch in task.val_loader:
            embeddings = encoder.embed(batch["x"].to(device)).float().cpu()
            for place, clip in enumerate(batch["clip"].tolist()):
                if clip not in sums and len(sums) == PROJECTED:
                    continue
                sums[clip] = sums.get(clip, 0) + embeddings[place]
                counts[clip] = counts.get(clip, 0) + 1
                if encoder.kind == "visual" and clip not in pictures:
                    pictures[clip] = thumbnail(batch["x"][place])
        clips = list(sums)
        shutil.rmtree(
            self.folder / f"{epoch:05d}", ignore_errors=True
        )  # of a run killed here: it would be added to
        (self.folder / PROJECTOR_FILE).unlink(missing_ok=True)
        self.writer.add_embedding(
            torch.stack([sums[clip] / counts[clip] for clip in clips]),
            metadata=[_told(table.iloc[clip]) for clip in clips],
            metadata_header=["clip", "label", "method"],
            label_img=torch.stack([pictures[clip] for clip in clips]) if pictures else None,
            global_step=epoch,
            tag="validation",
        )

    def close(self) -> None:
        self.writer.close()


def clip_scores(outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels (C,) and P(fake) (C,) of the clips of a validation, by the mean of logits; None where it has no classes.

    outputs: (N,) each, `clip` with `label` and `logit`, or with logits of `genuine` and `fake` versions of a clip.
    """
    if {"label", "logit"} <= outputs.keys():
        clips, labels, logits = outputs["clip"], outputs["label"], outputs["logit"]
    elif {"genuine", "fake"} <= outputs.keys():
        labels = np.repeat([0, 1], len(outputs["clip"]))
        clips = 2 * np.tile(outputs["clip"], 2) + labels
        logits = np.concatenate([outputs["genuine"], outputs["fake"]])
    else:
        return None
    names, place, count = np.unique(clips, return_inverse=True, return_counts=True)
    label = np.zeros(len(names), int)
    label[place] = labels.astype(int)
    return label, expit(np.bincount(place, logits.astype(np.float64)) / count)


def thumbnail(x: torch.Tensor) -> torch.Tensor:
    """(…, 3, H, W), preprocessed, the first of several frames -> (3, 48, 48) in [0, 1], stretched to full contrast."""
    picture = x.reshape(-1, *x.shape[-3:])[0].float()
    low, high = picture.min(), picture.max()
    picture = (picture - low) / (high - low).clamp(min=1e-6)
    return F.interpolate(picture[None], size=(THUMBNAIL, THUMBNAIL), mode="area")[0]


def _told(row: Any) -> list[str]:
    """A line of the metadata, whose columns tabs divide."""
    method = row["method"] if row["truth"] == 1 and isinstance(row["method"], str) else None
    words = (
        row["key"],
        "fake" if row["truth"] == 1 else "genuine",
        method or ("unknown" if row["truth"] == 1 else "-"),
    )
    return [" ".join(str(word).split()) for word in words]
