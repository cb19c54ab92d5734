"""Pairs of genuine speech and its fake, for training that learns the manipulation and not the channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from avdetect.data.loaders import PreparedRows, cut, spread
from avdetect.data.prepare import PreparedSet
from avdetect.data.pseudo.vocoders import VoiceGenerators
from avdetect.data.pseudo.voices import fake_voice
from avdetect.errors import ConfigError, DataError
from avdetect.transforms import AudioAugment, AudioPreprocess
from avdetect.transforms.degrade_sound import reverberate
from avdetect.transforms.settings import Settings

GENUINE, LABELLED, PSEUDO = range(3)  # what a validation sample is, in `origin`
STRETCH_S = 6.0  # of a long recording, at most so much is copied at a time
RT60_S = (0.15, 0.9)  # reverberation times of rooms


@dataclass(frozen=True)
class VoicePairSettings(Settings):
    """labelled: how often the fake is a labelled one, where the genuine recording has one. dirt_p: how often speech
    passes a channel before it is copied too, as forgers copy recordings of any quality. reverb_p: of the channel
    that both sides pass after it. reuse: epochs in which a copy is used before another is made.
    """

    labelled: float = 0.0
    dirt_p: float = 0.4
    reverb_p: float = 0.15
    reuse: int = 4

    def __post_init__(self) -> None:
        for name in ("labelled", "dirt_p", "reverb_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.audio.pseudo.{name} is {getattr(self, name)}: it must be in [0, 1]")
        if self.reuse < 1:
            raise ConfigError(f"train.audio.pseudo.reuse is {self.reuse}: it must be 1 or more")


class VoicePairDataset(PreparedRows):
    """Genuine speech with a fake of its own: a labelled one of the same `source`, or a copy made here.

    Rows: `prepared.rows("audio", split)`. Training: an item belongs to a genuine row, `x` float32 (2, window
    samples): the same moment of the genuine recording and of its fake, both through the same random channel;
    `label` 0 and 1. Recordings shorter than a window are repeated, both sides alike.

    Evaluation: an item belongs to any row. Up to `windows` windows as they are; of a genuine row those of its copy
    too. `origin` tells which is which, `clip` tells the copies from their originals.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: AudioPreprocess,
        settings: VoicePairSettings,
        channel: AudioAugment,
        training: bool = False,
        seed: int = 0,
        generators: VoiceGenerators | None = None,
        windows: int = 2,
    ):
        """channel: of both sides, with `crop_s` None."""
        genuine = rows[rows["truth"] == 0]
        if genuine.empty:
            raise DataError("there is no genuine speech to make fakes of: add recordings with label 0")
        super().__init__(prepared, genuine if training else rows, training, seed)
        self.preprocess, self.settings, self.channel = preprocess, settings, channel
        self.generators, self.windows = generators, windows
        fakes = rows[(rows["truth"] == 1) & rows["source"].notna()]
        self._fakes: dict[str, list[dict]] = {}
        for fake in fakes.to_dict("records"):
            self._fakes.setdefault(fake["source"], []).append(fake)
        self._sound: dict[str, np.ndarray] = {}
        self._copies: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        if not self.training:
            return self._validation(index)
        genuine, fake = self._pair(index, rng)
        size, length = self.preprocess.window_samples, min(genuine.size, fake.size)
        start = int(rng.integers(max(1, length - size + 1)))
        seed = int(rng.integers(2**32))
        sides = [self._through(x[start : min(start + size, length)], seed) for x in (genuine, fake)]
        x = torch.cat([self.preprocess(side)[0] for side in sides])
        told = {"x": x, "label": torch.tensor([0, 1]), "clip": torch.full((2,), index)}
        return told | {"origin": torch.tensor([GENUINE, PSEUDO])}

    def windows_held(self) -> np.ndarray:
        """(items,) whole windows of each recording, at least 1, of as much of it as is copied at a time.

        Drawn as often as that, a long recording of one corpus weighs as much as many short ones of another.
        """
        held = np.array([row["duration_s"] for row in self._rows]).clip(max=STRETCH_S)
        return np.maximum(1, (held / self.preprocess.window_s).astype(int))

    def _pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Genuine speech and its fake, aligned: float32 (n,) each."""
        fakes = self._fakes.get(self._rows[index]["source"])
        if fakes and rng.random() < self.settings.labelled:
            return self._heard(self._rows[index]), self._heard(fakes[rng.integers(len(fakes))])
        turn = int(self._epoch) // self.settings.reuse
        if index not in self._copies or self._copies[index][0] != turn:
            self._copies[index] = (
                turn,
                *self._copied(index, np.random.default_rng([self.seed, turn, index, 1])),
            )
        return self._copies[index][1:]

    def _copied(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A stretch of a recording, at times dirty, and a copy of it."""
        audio = self._heard(self._rows[index])
        rate = self.preprocess.sample_rate
        size = round(STRETCH_S * rate)
        if audio.size > size:
            audio = cut(int(rng.integers(audio.size - size + 1)), size, audio)
        if self.training and rng.random() < self.settings.dirt_p:
            audio = self.channel(audio, rng)
        return audio, fake_voice(audio, rate, rng, generators=self.generators)[0]

    def _through(self, waveform: np.ndarray, seed: int) -> np.ndarray:
        """The channel that belongs to `seed`: the same for both sides of a pair."""
        rng = np.random.default_rng(seed)
        if rng.random() < self.settings.reverb_p:
            waveform = reverberate(waveform, rng.uniform(*RT60_S), self.preprocess.sample_rate, rng)
        return self.channel(waveform, rng)

    def _heard(self, row: dict) -> np.ndarray:
        if row["key"] not in self._sound:
            with self.prepared.clip_file(row) as file:
                audio = file.audio()
            if audio is None or not audio.size:
                raise DataError(f"{row['key']} has no sound: prepare its dataset again")
            self._sound[row["key"]] = np.asarray(audio, dtype=np.float32)
        return self._sound[row["key"]]

    def _validation(self, index: int) -> dict[str, Tensor]:
        row = self._rows[index]
        if row["truth"] == 1:
            parts = [(self._heard(row), LABELLED)]
        else:
            if index not in self._copies:
                self._copies[index] = (0, *self._copied(index, np.random.default_rng([self.seed, index, 2])))
            _, genuine, copy = self._copies[index]
            parts = [(genuine, GENUINE), (copy, PSEUDO)]
        windows = [self.preprocess(audio)[0] for audio, _ in parts]
        windows = [w[torch.from_numpy(spread(len(w), self.windows))] for w in windows]
        origin = torch.cat([torch.full((len(w),), o) for w, (_, o) in zip(windows, parts, strict=True)])
        clip = 2 * index + (origin == PSEUDO).long()
        return {"x": torch.cat(windows), "label": (origin != GENUINE).long(), "clip": clip, "origin": origin}
