"""Training of the face autoencoders whose drawings serve as pseudo-fakes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avdetect.data.guard import check_closed
from avdetect.data.prepare import PreparedSet
from avdetect.data.pseudo.face_autoencoder import (
    DECODERS,
    UPSAMPLING,
    FaceAutoencoder,
    save_generator,
    to_input,
)
from avdetect.errors import ConfigError, DataError
from avdetect.training.snapshots import check_keep, snapshot_files, snapshot_steps, unfinished
from avdetect.transforms.settings import Settings


@dataclass(frozen=True)
class FaceGeneratorSettings(Settings):
    """How long and how large: `steps` optimiser steps of `batch` faces for each network.

    upsampling: one network each; keep: at which parts of the training a copy is kept (half-trained decoders draw
    worse faces); faces: at most so many are held in memory; side: pixels that a network draws; precision: "bf16" or
    "no" (mixed precision takes half the time on CPUs that have it, and far longer on others).
    """

    steps: int = 700
    batch: int = 24
    lr: float = 2e-3
    side: int = 96
    width: int = 24
    code: int = 16
    faces: int = 6000
    upsampling: tuple[str, ...] = UPSAMPLING
    keep: tuple[float, ...] = (0.3, 1.0)
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "faces", "width", "code"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"the face generators' {name} is {getattr(self, name)}: it must be 1 or more"
                )
        if self.precision not in ("bf16", "no"):
            raise ConfigError(f"the face generators' precision is {self.precision!r}: use bf16 or no")
        check_keep(self.keep, "face")


def fit_face_generators(
    prepared: PreparedSet, settings: dict[str, Any], folder: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Train the autoencoders on genuine faces of the train split and return their files in `folder`.

    settings: fields of `FaceGeneratorSettings`. Files that are there already are kept, so an interrupted stage goes on
    with the next network. Raises DataError where the split has no genuine face of two sources, one for each decoder.
    """
    check_closed("training")
    settings = FaceGeneratorSettings.from_dict(settings)
    files = snapshot_files(folder, "face", settings.upsampling, settings.keep)
    todo = unfinished(files)
    if todo:
        faces, group = _faces(prepared, settings)
        folder.mkdir(parents=True, exist_ok=True)
    for kind in todo:
        _fit_one(kind, faces, group, settings, files[kind], say)
    return [path for paths in files.values() for path in paths]


def _faces(prepared: PreparedSet, settings: FaceGeneratorSettings) -> tuple[Tensor, np.ndarray]:
    """Faces float32 (N, 3, side, side) in [0, 1], one of a clip, and the decoder (N,) that draws each.

    All faces of a subject, or where none is named of a source, belong to one decoder.
    """
    rows = prepared.rows("visual", "train")
    rows = rows[rows["truth"] == 0].reset_index(drop=True)
    owner = rows["subject"].fillna(rows["source"]).fillna(rows["key"]).astype(str)
    rng = np.random.default_rng(settings.seed)
    people = rng.permutation(sorted(owner.unique()))
    if len(people) < DECODERS:
        raise DataError(
            "the train split has genuine faces of one person alone: face generators need two, leave them out of "
            "train.generators or add footage"
        )
    decoder = {name: place % DECODERS for place, name in enumerate(people)}
    chosen = np.sort(rng.permutation(len(rows))[: settings.faces])
    crops, group = [], []
    for index in chosen:
        with prepared.clip_file(rows.iloc[index]) as file:
            tracks = [t for t, track in enumerate(file.meta["tracks"]) if track["crops"]]
            crop = file.crop(tracks[0], int(rng.integers(file.meta["tracks"][tracks[0]]["crops"])))
        crops.append(to_input(crop[None], settings.side).mul_(255).to(torch.uint8))
        group.append(decoder[owner[index]])
    return torch.cat(crops), np.array(group)


def _fit_one(
    kind: str,
    faces: Tensor,
    group: np.ndarray,
    settings: FaceGeneratorSettings,
    files: list[Path],
    say: Callable[[str], None],
) -> None:
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, UPSAMPLING.index(kind)])
    network = FaceAutoencoder(settings.side, kind, settings.width, settings.code)
    network = network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), settings.lr)
    members = [np.flatnonzero(group == decoder) for decoder in range(DECODERS)]
    keep = snapshot_steps(files, settings.keep, settings.steps)
    started = time.perf_counter()
    for step in range(1, settings.steps + 1):
        decoder = step % DECODERS
        chosen = rng.choice(members[decoder], settings.batch)
        x = faces[torch.from_numpy(chosen)].float().div_(255).contiguous(memory_format=torch.channels_last)
        if rng.random() < 0.5:
            x = x.flip(-1)
        for parameters in optimizer.param_groups:
            parameters["lr"] = settings.lr * min(1.0, step / 50)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            drawn = network(x, decoder)
        loss = drawing_loss(drawn.float(), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in keep:
            save_generator(network, keep[step])
            say(f"generators  face {kind}  step {step}/{settings.steps}  loss {loss.item():.4f}  "
                f"{time.perf_counter() - started:.0f} s")  # fmt: skip


def drawing_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of colours plus that of their differences between neighbours, which makes edges count."""
    error = drawn - wanted
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return error.abs().mean() + 2.0 * (across.abs().mean() + down.abs().mean())
