"""Which clips make a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BalancedBatches(Sampler[list[int]]):
    """Batches with as many real as fake samples, alternating; an epoch follows from (seed, epoch) alone.

    Each class is drawn in random order without replacement and starts anew when it is used up, so the rarer
    class is seen more often. What is drawn for the r-th time has its index raised by r times the number of
    samples, so that a dataset can draw other crops for it (`PreparedRows`).

    labels: (N,) of 0 and 1; batches: how many make an epoch (default: until the larger class was seen once).
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int, batches: int | None = None):
        self.batch_size, self.drop_last = 2 * max(1, batch_size // 2), True  # accelerate asks for both
        self.count = len(labels)
        self.classes = [np.flatnonzero(np.asarray(labels) == value) for value in (0, 1)]
        self.half = self.batch_size // 2
        self.seed = seed
        self.batches = batches or -(-max(len(members) for members in self.classes) // self.half)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        needed = self.batches * self.half
        real, fake = (_repeat_shuffled(members, needed, self.count, rng) for members in self.classes)
        for start in range(0, needed, self.half):
            pairs = zip(real[start : start + self.half], fake[start : start + self.half], strict=True)
            yield [int(index) for pair in pairs for index in pair]


class ShuffledBatches(Sampler[list[int]]):
    """Full batches of all samples in random order; an epoch follows from (seed, epoch) alone."""

    def __init__(self, count: int, batch_size: int, seed: int, batches: int | None = None):
        self.members = np.arange(count)
        self.batch_size, self.drop_last = min(batch_size, count), True  # accelerate asks for both
        self.seed = seed
        self.batches = batches or max(1, count // self.batch_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        size = self.batch_size
        order = _repeat_shuffled(self.members, self.batches * size, len(self.members), rng)
        for start in range(0, len(order), size):
            yield [int(index) for index in order[start : start + size]]


def _repeat_shuffled(members: np.ndarray, needed: int, count: int, rng: np.random.Generator) -> np.ndarray:
    rounds = -(-needed // len(members))
    return np.concatenate([rng.permutation(members) + count * number for number in range(rounds)])[:needed]
