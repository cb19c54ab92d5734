"""Spans of talking faces for lip-sync training: lips and sound from nearby places, and their pseudo-fakes."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from avdetect.data.loaders import Augment, PreparedRows, cut
from avdetect.data.prepare import PreparedSet
from avdetect.data.pseudo.lips import kinds_for, out_of_sync
from avdetect.transforms import LipSyncPreprocess

FRAME_RATES = (15.0, 60.0)  # Hz, of the videos that training pretends to read
PACE = (0.88, 1.14)  # of training spans against their recording: sound and lips alike


class SyncSpans(PreparedRows):
    """`mouths` float32 (k, T, m, m) and `waveform` float32 (k, T * n) of the same length, from nearby places.

    `shift` (k,): the sound of grid frame w + shift goes with lip frame w. `fake` (k,): whether no shift puts them in
    step. T = `frames`. Training: one span at a random place, pace and frame rate, the sound from up to as many
    frames before or after as the clip allows, and with probability `fake_p` an out-of-sync version of it, both
    through the same draw of `augment`. Evaluation: the first `frames` of each clip as they are, and one pseudo-fake
    of them, always the same, of each kind in turn.

    The longest run of mouths of every clip is held in memory, up to `longest` frames of it (a second takes 90 KB).
    Rows: `prepared.rows("lipsync", split, min_mouths=frames)`.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: LipSyncPreprocess,
        frames: int,
        training: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        fake_p: float = 0.25,
        longest: int = 250,
    ):
        """`augment(mouths uint8 (T, m, m), waveform, rng) -> (mouths, waveform)`, used in training only."""
        super().__init__(prepared, rows, training, seed)
        self.preprocess, self.frames, self.augment, self.fake_p = preprocess, frames, augment, fake_p
        self._clips = [self._read(index, longest) for index in range(len(self))]
        subjects = self.table["subject"].fillna(self.table["key"])
        self._subject = subjects.astype("category").cat.codes.to_numpy()

    def _read(self, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Longest run of mouths uint8 (T, m, m[, 3]) and the sound beside it, int16 (T * n,)."""
        with self.naming(index), self.open(index) as file:
            audio = file.audio()
            lengths = [track["mouths"] for track in file.meta["tracks"]]
            track = int(np.argmax(lengths))
            if audio is None or lengths[track] < self.frames:
                raise ValueError(f"it has no sound, or no face with {self.frames} mouth crops in a row")
            mouths, start = (
                np.asarray(file.mouths(track)[:longest]),
                int(file.meta["tracks"][track]["mouth_start"]),
            )
        size = self.preprocess.samples_per_frame
        sound = cut(start * size, len(mouths) * size, audio)
        return mouths, np.clip(np.rint(sound * 32767.0), -32768, 32767).astype(np.int16)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        if self.training:
            spans = self._drawn(index, rng)
        else:
            mouths, sound = self._clips[index]
            mouths, sound = (
                mouths[: self.frames],
                _floats(sound[: self.frames * self.preprocess.samples_per_frame]),
            )
            rng = np.random.default_rng([self.seed, index])
            spans = [(mouths, sound, 0, 0), self._fake(mouths, sound, index, rng, index)]
        tensors = [self.preprocess(mouths, 0, sound) for mouths, sound, _, _ in spans]
        return self.item(
            index,
            mouths=torch.cat([mouths for mouths, _ in tensors]),
            waveform=torch.cat([sound for _, sound in tensors]),
            shift=torch.tensor([shift for _, _, shift, _ in spans]),
            fake=torch.tensor([fake for _, _, _, fake in spans]),
        )

    def _drawn(self, index: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, int, int]]:
        mouths, sound, shift = self._span(index, rng)
        fake = self._fake(mouths, sound, index, rng) if rng.random() < self.fake_p else None
        twin = copy.deepcopy(rng)  # both sides go through the same channel
        spans = [(*self._augmented(mouths, sound, rng), shift, 0)]
        if fake is not None:
            spans.append((*self._augmented(*fake[:2], twin), 0, 1))
        return spans

    def _augmented(
        self, mouths: np.ndarray, sound: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return (mouths, sound) if self.augment is None else self.augment(mouths, sound, rng)

    def _span(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """`frames` mouths and as much sound, and by how many frames the sound is cut later or earlier."""
        mouths, sound = self._clips[index]
        room = (len(mouths) - 1) / (self.frames - 1)  # the fastest pace at which the clip lasts
        pace = rng.uniform(PACE[0], max(min(PACE[1], room), PACE[0])) if rng.random() < 0.6 else 1.0
        slack = len(mouths) - 1 - (self.frames - 1) * pace
        first = rng.uniform(0.0, slack)
        if pace == 1.0:
            first = float(rng.integers(int(slack) + 1))
        at = first + pace * np.arange(self.frames)
        chosen = _seen(mouths, at, pace, rng)
        # the sound may begin this many steps earlier or later without leaving the clip
        shift = int(rng.integers(-int((slack - first) / pace), int(first / pace) + 1))
        size = self.preprocess.samples_per_frame
        begin = (first - shift * pace) * size
        places = begin + pace * np.arange(self.frames * size)
        if pace == 1.0:
            return chosen, _floats(sound[round(begin) : round(begin) + self.frames * size]), shift
        return chosen, np.interp(places, np.arange(len(sound)), _floats(sound)).astype(np.float32), shift

    def _fake(
        self,
        mouths: np.ndarray,
        sound: np.ndarray,
        index: int,
        rng: np.random.Generator,
        turn: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, int, int]:
        """An out-of-sync version: of a random kind, or of the `turn`-th in their order."""
        same = np.flatnonzero(self._subject == self._subject[index])
        other = np.flatnonzero(self._subject != self._subject[index])
        same = same[same != index]
        elsewhere = _floats(self._clips[int(rng.choice(same))][1]) if len(same) else None
        foreign = _floats(self._clips[int(rng.choice(other))][1]) if len(other) else None
        kinds = kinds_for(len(mouths), foreign is not None, elsewhere is not None)
        kind = kinds[turn % len(kinds)] if turn is not None else None
        size = self.preprocess.samples_per_frame
        mouths, sound, _ = out_of_sync(mouths, sound, size, rng, kind, foreign, elsewhere)
        return mouths, sound, 0, 1


def _floats(sound: np.ndarray) -> np.ndarray:
    return sound.astype(np.float32) / np.float32(32767.0)


def _seen(mouths: np.ndarray, at: np.ndarray, pace: float, rng: np.random.Generator) -> np.ndarray:
    """Mouths at the places `at`, as a video of another frame rate read on the grid shows them.

    Half of the time frames between two are blends of both (a high rate); else the frame that stands at the time, in
    a video of a random rate of at most the recording's, so that frames repeat and drop out.
    """
    if pace == 1.0 and rng.random() < 0.7:
        return mouths[at.astype(int)]
    if rng.random() < 0.5:
        low = np.minimum(at.astype(int), len(mouths) - 2)
        share = (at - low).reshape(-1, *[1] * (mouths.ndim - 1))
        return np.rint((1 - share) * mouths[low] + share * mouths[low + 1]).astype(np.uint8)
    step = 25.0 / rng.uniform(*FRAME_RATES)
    phase = rng.random()
    shown = np.maximum((np.floor(at / step + phase) - phase) * step, 0.0)
    return mouths[np.minimum(np.rint(shown).astype(int), len(mouths) - 1)]
