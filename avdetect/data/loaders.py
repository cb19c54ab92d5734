"""Torch datasets over a prepared set.

Training draws follow from (seed, epoch, index) alone, so they are the same for any number of loader processes
and after a resume; evaluation draws nothing. A sample that cannot be read raises: it is never replaced.
Every item is a dictionary; `collate` joins the samples of all clips along the first axis and tells by `clip`
which item of the dataset each came from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avdetect.data.prepare import PreparedSet
from avdetect.errors import AvdetectError, ConfigError, DataError
from avdetect.media import Clip, ClipFile
from avdetect.transforms import AudioPreprocess, LipSyncPreprocess, VisualPreprocess
from avdetect.transforms.pairs import predecessors

Augment = Callable[..., Any]


class PreparedRows(Dataset):
    """Rows of a prepared set (`PreparedSet.rows`), one item a clip; base of the datasets below.

    Index `i + r * len(self)` is clip i drawn for the r-th time again in this epoch, with other random numbers.
    `methods`: the distinct methods of the fake rows, sorted ("unknown" where a row names none).
    """

    def __init__(self, prepared: PreparedSet, rows: pd.DataFrame, training: bool = False, seed: int = 0):
        if rows.empty:
            raise DataError(
                f"no clip of {prepared.folder} is fit for {type(self).__name__}: see its prepared.csv"
            )
        self.prepared, self.training, self.seed = prepared, training, seed
        self.table = rows.reset_index(drop=True)
        self._rows = self.table.to_dict("records")
        named = self.table["method"].fillna("unknown").where(self.table["truth"] == 1)
        self.methods: list[str] = sorted(named.dropna().unique())
        # position in `methods` from 1 on; a genuine clip has no method
        self._method = [0 if pd.isna(name) else self.methods.index(name) + 1 for name in named]
        # Shared memory: loader processes that outlive an epoch see the new one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self.sample(index % len(self), self.rng(index))

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """The item of a clip, drawn with `rng`."""
        raise NotImplementedError

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, 1 = fake."""
        return self.table["truth"].to_numpy(dtype=np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass draw what belongs to this epoch."""
        self._epoch.fill_(epoch)

    def rng(self, index: int) -> np.random.Generator:
        """Random numbers of one item in the present epoch."""
        return np.random.default_rng([self.seed, int(self._epoch), index])

    @contextmanager
    def naming(self, index: int) -> Iterator[None]:
        """Whatever fails inside to read the item's prepared clip is a DataError that names the clip."""
        row = self._rows[index]
        try:
            yield
        except AvdetectError as error:  # names the file and says what to do
            raise DataError(f"{row['key']}: {error}") from error
        except (OSError, ValueError) as error:
            raise DataError(
                f"{row['key']}: the prepared clip {self.prepared.clip_path(row)} cannot be used ({error}): "
                "delete it and run `avdetect data prepare` again"
            ) from error

    def open(self, index: int) -> ClipFile:
        """The item's prepared clip, opened lazily."""
        return self.prepared.clip_file(self._rows[index])

    def item(self, index: int, **tensors: Tensor) -> dict[str, Tensor]:
        """Tensors with `label`, `method` and `clip` (int64, one a sample).

        `method` is 0 for a genuine clip and m for a fake made by `methods[m - 1]`.
        """
        count = len(next(iter(tensors.values())))
        told = {"label": self._rows[index]["truth"], "method": self._method[index], "clip": index}
        return tensors | {name: torch.full((count,), value) for name, value in told.items()}


class FaceCropDataset(PreparedRows):
    """Face crops: `x` float32 (k, 3, S, S), or (k, 2, 3, S, S) where `preprocess.frames` is 2.

    In the latter case each crop comes with its predecessor in the track (the first with its successor, an
    only one with itself), and augmentation changes both by the same random numbers.

    Training: k random crops (all different where the track has as many). Evaluation: up to k crops spread
    evenly over the track, both ends included. `track`: "prominent" = the first track with crops; "any" = in
    training a random one, each as likely as it has crops, in evaluation k crops of every track.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: VisualPreprocess,
        crops: int = 4,
        training: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        track: str = "prominent",
    ):
        """`augment(crops uint8 (k, s, s, 3), rng) -> crops`, used in training only."""
        super().__init__(prepared, rows, training, seed)
        if track not in ("prominent", "any"):
            raise ConfigError(f"unknown choice of track {track!r}: one of prominent, any")
        self.preprocess, self.crops, self.augment, self.track = preprocess, crops, augment, track

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        with self.naming(index), self.open(index) as file:
            counts = np.array([track["crops"] for track in file.meta["tracks"]])
            places = self._choose(counts, rng)
            stacks = [np.stack([file.crop(track, k) for track, k in places])]
            if self.preprocess.frames == 2:
                before = {track: predecessors(counts[track]) for track, _ in places}
                stacks.append(np.stack([file.crop(track, int(before[track][k])) for track, k in places]))
        if self.training and self.augment is not None:
            generators = copy.deepcopy(rng), rng  # equal generators draw the same for crop and predecessor
            stacks = [self.augment(stack, one) for stack, one in zip(stacks, generators, strict=False)]
        return self.item(index, x=self.preprocess(*stacks))

    def _choose(self, counts: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
        tracks = np.flatnonzero(counts)
        if not len(tracks):
            raise ValueError("it has no face crop")
        if self.track == "prominent":
            tracks = tracks[:1]
        if not self.training:
            return [(int(t), int(k)) for t in tracks for k in spread(counts[t], self.crops)]
        chosen = int(rng.choice(tracks, p=counts[tracks] / counts[tracks].sum()))
        drawn = rng.choice(counts[chosen], size=self.crops, replace=bool(counts[chosen] < self.crops))
        return [(chosen, int(k)) for k in np.sort(drawn)]


class VoiceDataset(PreparedRows):
    """Windows of sound: `x` float32 (k, window samples).

    Training: one window at a random time. Evaluation: up to k of the windows that the preprocess makes,
    spread evenly. Audio shorter than a window is repeated by the preprocess.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: AudioPreprocess,
        windows: int = 4,
        training: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
    ):
        """`augment(waveform (n,), rng) -> waveform` of the same length, used in training only."""
        super().__init__(prepared, rows, training, seed)
        self.preprocess, self.windows, self.augment = preprocess, windows, augment

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        with self.naming(index), self.open(index) as file:
            audio = file.audio()
            if audio is None or not audio.size:
                raise ValueError("it has no sound")
        if not self.training:
            windows, _ = self.preprocess(audio)
            return self.item(index, x=windows[torch.from_numpy(spread(len(windows), self.windows))])
        size = self.preprocess.window_samples
        if audio.size > size:
            start = int(rng.integers(audio.size - size + 1))
            audio = audio[start : start + size]
        if self.augment is not None:
            audio = self.augment(audio, rng)
        windows, _ = self.preprocess(audio)
        if len(windows) != 1:
            raise ConfigError(
                f"the audio augmentation returned {audio.size} samples, more than one window ({size}): it "
                "must keep the length (AudioAugment: crop_s equal to the window, or None)"
            )
        return self.item(index, x=windows)


class LipSyncDataset(PreparedRows):
    """Mouths and the sound around them: `mouths` float32 (k, T, m, m), `waveform` float32 (k, (T + 2C)·n).

    T = `frames` of the grid, C = `context` grid frames of sound before and after, n = samples per grid frame,
    so `waveform[:, (C + s)·n : (C + s + T)·n]` is the sound shifted by s frames, |s| <= C. Sound that the
    clip does not have is zero. The track is the first with at least T mouths. Training: one span at a random
    place, with its whole context inside the clip where that can be; evaluation: up to k spans that do not
    overlap, spread evenly. Rows: `prepared.rows("lipsync", split, min_mouths=frames)`.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: LipSyncPreprocess,
        frames: int = 50,
        context: int = 15,
        spans: int = 1,
        training: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
    ):
        """`augment(mouths uint8 (T, m, m), waveform, rng) -> (mouths, waveform)`, used in training only."""
        super().__init__(prepared, rows, training, seed)
        self.preprocess, self.frames, self.context, self.spans = preprocess, frames, context, spans
        self.augment = augment

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        with self.naming(index), self.open(index) as file:
            audio = file.audio()
            lengths = [track["mouths"] for track in file.meta["tracks"]]
            track = next((t for t, length in enumerate(lengths) if length >= self.frames), None)
            if audio is None or track is None:
                raise ValueError(f"it has no sound, or no face with {self.frames} mouth crops in a row")
            mouths, start = file.mouths(track), int(file.meta["tracks"][track]["mouth_start"])
        pairs = [
            self._span(mouths, start, audio, at, rng) for at in self._places(len(mouths), start, audio, rng)
        ]
        return self.item(
            index, mouths=torch.cat([m for m, _ in pairs]), waveform=torch.stack([w for _, w in pairs])
        )

    def _places(self, length: int, start: int, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """First mouth of each span."""
        last = length - self.frames
        if not self.training:
            return spread(length // self.frames, self.spans) * self.frames
        heard = audio.size // self.preprocess.samples_per_frame  # grid frames that have sound
        low = max(0, self.context - start)
        high = min(last, heard - self.context - self.frames - start)
        low, high = (low, high) if low <= high else (0, last)
        return rng.integers(low, high + 1, size=1)

    def _span(
        self, mouths: np.ndarray, start: int, audio: np.ndarray, at: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        part, size = mouths[at : at + self.frames], self.preprocess.samples_per_frame
        waveform = cut((start + at - self.context) * size, (self.frames + 2 * self.context) * size, audio)
        if self.training and self.augment is not None:
            part, waveform = self.augment(part, waveform, rng)
        frames, _ = self.preprocess(part, self.context, waveform)
        return frames, torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))


class ClipDataset(PreparedRows):
    """Whole clips, for `avdetect.evidence`: an item is `(row, Clip)`, `row` a dict with `key` and `truth`.

    Join with `collate_fn=list`.
    """

    def sample(self, index: int, rng: np.random.Generator) -> tuple[dict[str, Any], Clip]:
        row = self._rows[index]
        with self.naming(index):
            return row, self.prepared.load(row)


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join the samples of several clips along the first axis."""
    return {name: torch.cat([item[name] for item in items]) for name in items[0]}


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` different indices spread evenly over range(count), with both ends (one: the middle)."""
    if count <= wanted:
        return np.arange(count)
    if wanted == 1:
        return np.array([count // 2])
    return np.round(np.linspace(0, count - 1, wanted)).astype(np.int64)


def cut(first: int, length: int, audio: np.ndarray) -> np.ndarray:
    """float32 (length,) samples from index `first` (may be negative) on, zero where the audio has none."""
    waveform = np.zeros(length, dtype=np.float32)
    low, high = max(first, 0), min(first + length, audio.size)
    if high > low:
        waveform[low - first : high - first] = audio[low:high]
    return waveform
