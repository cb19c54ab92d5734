"""Which clips make a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from avdetect.errors import DataError


class _Batches(Sampler[list[int]]):
    """Batches of indices; an epoch follows from (seed, epoch) alone."""

    epoch = 0
    batches: int

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches


class BalancedBatches(_Batches):
    """Batches with as many real as fake samples, alternating; an epoch follows from (seed, epoch) alone.

    Each class is drawn in random order without replacement and starts anew when it is used up, so the rarer
    class is seen more often. What is drawn for the r-th time has its index raised by r times the number of
    samples, so that a dataset can draw other crops for it (`PreparedRows`).

    labels: (N,) of 0 and 1; batches: how many make an epoch (default: until the larger class was seen once).
    groups: (N,) names; where given, a sample stands beside one of the other class from its own group, if there is
    one. Real and fake of one recording then differ in the manipulation alone.
    """

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        batches: int | None = None,
        groups: np.ndarray | None = None,
    ):
        self.batch_size, self.drop_last = 2 * max(1, batch_size // 2), True  # accelerate asks for both
        self.labels = np.asarray(labels)
        self.classes = [np.flatnonzero(self.labels == value) for value in (0, 1)]
        self.half = self.batch_size // 2
        self.seed = seed
        self.batches = batches or -(-max(len(members) for members in self.classes) // self.half)
        self.groups = None if groups is None else np.asarray(groups)
        self._of_group: dict[tuple[str, int], list[int]] = {}
        for index, name in enumerate(self.groups if self.groups is not None else ()):
            self._of_group.setdefault((name, int(self.labels[index])), []).append(index)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        needed = self.batches * self.half
        real, fake = (_repeat_shuffled(members, needed, rng) for members in self.classes)
        if self.groups is not None:
            self._pair(real, fake, rng)
        flat = np.stack([real, fake], 1).ravel()
        flat += len(self.labels) * _times_drawn(flat)
        for start in range(0, 2 * needed, self.batch_size):
            yield [int(index) for index in flat[start : start + self.batch_size]]

    def _pair(self, real: np.ndarray, fake: np.ndarray, rng: np.random.Generator) -> None:
        """Give every even real a fake of its group, and every odd fake a real of its group."""
        for place in range(len(real)):
            leader, follower, wanted = (real, fake, 1) if place % 2 == 0 else (fake, real, 0)
            partners = self._of_group.get((self.groups[leader[place]], wanted))
            if partners:
                follower[place] = partners[rng.integers(len(partners))]


class ShuffledBatches(_Batches):
    """Full batches of all samples in random order; an epoch follows from (seed, epoch) alone.

    times: (count,) how often each sample comes before all begin anew, 1 or more (default: once).
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        batches: int | None = None,
        times: np.ndarray | None = None,
    ):
        self.count = count
        self.members = np.repeat(np.arange(count), 1 if times is None else times)
        self.batch_size, self.drop_last = min(batch_size, len(self.members)), True  # accelerate asks for both
        self.seed = seed
        self.batches = batches or max(1, len(self.members) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        size = self.batch_size
        order = _repeat_shuffled(self.members, self.batches * size, rng)
        order += self.count * _times_drawn(order)
        for start in range(0, len(order), size):
            yield [int(index) for index in order[start : start + size]]


class TripletBatches(_Batches):
    """Batches of samples by threes: anchor, another of its class, one of the other class; labels (N,) of 0 and 1.

    Triplets are anchored at a fake and at a real sample in turn. Anchors are drawn as in `BalancedBatches`, the
    other two independently; an epoch follows from (seed, epoch) alone, and repeated draws have raised indices.

    batch_size: triplets in a batch; batches: how many make an epoch (default: until every sample was an anchor).
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int, batches: int | None = None):
        self.labels, self.triplets, self.seed = np.asarray(labels), batch_size, seed
        self.batch_size, self.drop_last = 3 * batch_size, True  # accelerate asks for both
        self.classes = _two_of_each(self.labels)
        most = 2 * max(len(members) for members in self.classes)
        self.batches = batches or -(-most // batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        needed = self.batches * self.triplets
        half = -(-needed // 2)
        real, fake = (_repeat_shuffled(members, half, rng) for members in self.classes)
        anchors = np.stack([fake, real], 1).ravel()[:needed]
        flat = _complete(anchors, self.labels, self.classes, rng)
        flat += len(self.labels) * _times_drawn(flat)
        for start in range(0, len(flat), self.batch_size):
            yield [int(index) for index in flat[start : start + self.batch_size]]


def fixed_triplets(labels: np.ndarray, seed: int) -> list[int]:
    """Indices of triplets as `TripletBatches` has them, one after the other, with every sample as anchor once."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    flat = _complete(np.arange(len(labels)), labels, _two_of_each(labels), rng)
    return [int(index) for index in flat]


def _two_of_each(labels: np.ndarray) -> list[np.ndarray]:
    classes = [np.flatnonzero(labels == value) for value in (0, 1)]
    if min(len(members) for members in classes) < 2:
        raise DataError(
            f"triplets need two genuine and two fake clips, but there are {len(classes[0])} and {len(classes[1])}: "
            "train with another method"
        )
    return classes


def _complete(
    anchors: np.ndarray, labels: np.ndarray, classes: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Anchors (T,) -> (3 T,): each with another of its class and one of the other class."""
    flat = np.empty((len(anchors), 3), np.int64)
    flat[:, 0] = anchors
    for value, members in enumerate(classes):
        rows = np.flatnonzero(labels[anchors] == value)
        place = np.searchsorted(members, anchors[rows])
        other = rng.integers(len(members) - 1, size=len(rows))
        flat[rows, 1] = members[other + (other >= place)]
        flat[rows, 2] = rng.choice(classes[1 - value], size=len(rows))
    return flat.ravel()


def _repeat_shuffled(members: np.ndarray, needed: int, rng: np.random.Generator) -> np.ndarray:
    rounds = -(-needed // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:needed]


def _times_drawn(order: np.ndarray) -> np.ndarray:
    """For each entry how often the same value stands before it."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    times = np.empty(len(order), np.int64)
    times[by_value] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return times
