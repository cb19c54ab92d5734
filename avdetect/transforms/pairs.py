"""Pairs of consecutive face crops, for networks that look at what changes between frames."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from avdetect.transforms.visual import VisualPreprocess


@dataclass(frozen=True)
class PairPreprocess(VisualPreprocess):
    """uint8 RGB crops -> each with its predecessor, both prepared as by `VisualPreprocess`."""

    frames: ClassVar[int] = 2

    def __call__(self, crops: np.ndarray, previous: np.ndarray | None = None) -> Tensor:
        """crops: uint8 (K, S, S, 3) RGB -> float32 (K, 2, 3, size, size): the crop, then its predecessor.

        previous: predecessors, of the shape of `crops`. Without them the crops count as consecutive frames of
        one face: the first, which has no predecessor, is paired with its successor, and a single crop with
        itself (its SSIM map is then 1 everywhere).
        """
        frames = super().__call__(crops)
        if previous is None:
            others = frames[predecessors(len(frames))]
        elif previous.shape != crops.shape:
            raise ValueError(
                f"there must be one previous crop a crop: {previous.shape} does not go with {crops.shape}"
            )
        else:
            others = super().__call__(previous)
        return torch.stack([frames, others], dim=1)


def predecessors(count: int) -> np.ndarray:
    """int64 (count,): index of each frame's predecessor; the first has its successor, an only one itself."""
    before = np.arange(count) - 1
    before[:1] = min(1, count - 1)
    return before
