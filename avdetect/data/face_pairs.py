"""Pairs of a genuine face crop and its fake, for training that learns the manipulation and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from avdetect.data.loaders import PreparedRows, spread
from avdetect.data.prepare import PreparedSet
from avdetect.data.pseudo.face_masks import changed_mask, half_plane
from avdetect.data.pseudo.faces import Generators, draw_kind, fake_face
from avdetect.errors import ConfigError, DataError
from avdetect.transforms import VisualPreprocess
from avdetect.transforms.face_channel import FaceChannel
from avdetect.transforms.settings import Settings

GENUINE, LABELLED, CHANNELLED, PSEUDO = range(4)  # what a validation sample is, in `origin`
POOL = 4000  # faces among which partners are looked for
DRAWN = 64  # of them, for each partner
MAP_STRIDE = 8  # pixels of the input for one of the map of changes
LEAST_CHANGE = 0.02  # mean of the map, below which a part of a manipulation is hardly one


@dataclass(frozen=True)
class PairSettings(Settings):
    """labelled: how often the fake is a labelled one, where there is one, instead of a pseudo-fake.
    part: how often only a part of a labelled manipulation is taken, the rest being genuine again. cache_mb: so much
    memory a loader process may fill with decoded crops, whose reading takes as long as all that is done to them.
    """

    labelled: float = 0.7
    part: float = 0.25
    cache_mb: int = 0

    def __post_init__(self) -> None:
        for name in ("labelled", "part"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"train.visual.pseudo.{name} is {getattr(self, name)}: it must be in [0, 1]"
                )
        if self.cache_mb < 0:
            raise ConfigError(f"train.visual.pseudo.cache_mb is {self.cache_mb}: it must be 0 or more")


class FacePairDataset(PreparedRows):
    """Genuine crops, each with a fake of its own: a labelled one of the same `source`, or a pseudo-fake.

    Rows: `prepared.rows("visual", split)`; an item belongs to a genuine row. A labelled fake without a genuine clip of
    its source, as a face drawn from nothing, stands beside any genuine clip of its dataset that has no fake of its
    own; where the dataset has none it is left out. `methods` are those of the labelled fakes and "pseudo", the last.

    Training: `x` float32 (2, 3, S, S), the genuine crop first, `label` 0 and 1. Both passed through the same random
    channel. `change` float32 (2, h, h), h = S / 8 rounded up, holds the manipulated part of each cell; `known` tells
    for which of the two it is known (a labelled fake may be cut differently from its original).

    Evaluation: up to `crops` crops as they are, those of the labelled fakes of the same source, and crops and
    pseudo-fakes through the same channel, with random numbers that follow from the seed alone; `origin` tells which
    is what.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        rows: pd.DataFrame,
        preprocess: VisualPreprocess,
        settings: PairSettings,
        channel: FaceChannel,
        generators: Generators | None = None,
        crops: int = 1,
        training: bool = False,
        seed: int = 0,
    ):
        genuine = rows[rows["truth"] == 0]
        if genuine.empty:
            raise DataError(
                f"no clip of {prepared.folder} is genuine and shows a face: pseudo-fakes are made of such clips"
            )
        super().__init__(prepared, genuine, training, seed)
        self.preprocess, self.settings, self.channel = preprocess, settings, channel
        self.generators, self.crops = generators, crops
        fakes = rows[rows["truth"] == 1]
        self.methods = [*sorted(fakes["method"].fillna("unknown").unique()), "pseudo"]
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        self._space = settings.cache_mb * 2**20
        self._counts: dict[str, tuple[int, int]] = {}
        self._fakes: dict[str, list[dict]] = {}
        for fake in fakes.dropna(subset="source").to_dict("records"):
            self._fakes.setdefault(fake["source"], []).append(fake)
        self._strays: dict[str, list[dict]] = {}
        for fake in fakes[~fakes["source"].isin(genuine["source"].dropna())].to_dict("records"):
            self._strays.setdefault(fake["dataset"], []).append(fake)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        with self.naming(index):
            return self._pair(index, rng) if self.training else self._examination(index)

    # -- training -------------------------------------------------------------------------------------------

    def _pair(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        own = self._fakes.get(self._rows[index]["source"], [])
        fakes = own or self._strays.get(self._rows[index]["dataset"], [])
        if fakes and rng.random() < self.settings.labelled:
            row = fakes[int(rng.integers(len(fakes)))]
            if own:
                genuine, fake, mask = self._labelled(index, row, rng)
            else:
                genuine, fake, mask = (*(self._one_crop(one, rng) for one in (self._rows[index], row)), None)
            method = self.methods.index(row["method"] if pd.notna(row["method"]) else "unknown") + 1
        else:
            genuine = self._one_crop(self._rows[index], rng)
            fake, mask = self._pseudo(genuine, index, rng)
            method = len(self.methods)
        place, channel = self.channel.draw(genuine.shape[0], rng)
        x = self.preprocess(
            np.stack([_resized(channel(place(one)), self.preprocess.size) for one in (genuine, fake)])
        )
        side = -(-x.shape[-1] // MAP_STRIDE)
        change = np.zeros((2, side, side), np.float32)
        if mask is not None:
            change[1] = cv2.resize(place(mask), (side, side), interpolation=cv2.INTER_AREA)
        return {
            "x": x,
            "label": torch.tensor([0, 1]),
            "method": torch.tensor([0, method]),
            "clip": torch.full((2,), index),
            "change": torch.from_numpy(change),
            "known": torch.tensor([True, mask is not None]),
        }

    def _labelled(
        self, index: int, fake_row: dict, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Crops of about the same moment of a genuine clip and of its fake, and where they differ, if that is known."""
        moment = rng.random()
        genuine, fake = (self._crop_at(row, moment) for row in (self._rows[index], fake_row))
        mask = changed_mask(genuine, fake)
        if mask is not None and rng.random() < self.settings.part:
            half = half_plane(len(mask), rng)
            if (mask * half).mean() > LEAST_CHANGE:
                mixed = genuine + (fake.astype(np.float32) - genuine) * half[..., None]
                fake, mask = np.rint(mixed).astype(np.uint8), mask * half
        return genuine, fake, mask

    def _pseudo(
        self, genuine: np.ndarray, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        others = bool((self._pool[2] != self._owner(index)).any())
        given = (["partner"] if others else []) + (["generators"] if self.generators else [])
        kind = draw_kind(rng, *given)
        partner = self._partner(genuine, index, rng) if kind == "identity" else None
        fake, _, mask = fake_face(genuine[None], rng, kind, self.generators, partner)
        return fake[0], mask[0]

    # -- evaluation -----------------------------------------------------------------------------------------

    def _examination(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        genuine = self._spread_crops(self._rows[index])
        stacks, origins, methods = [genuine], [GENUINE] * len(genuine), [0] * len(genuine)
        for row in self._fakes.get(self._rows[index]["source"], []):
            stacks.append(self._spread_crops(row))
            origins += [LABELLED] * len(stacks[-1])
            name = row["method"] if pd.notna(row["method"]) else "unknown"
            methods += [self.methods.index(name) + 1] * len(stacks[-1])
        for crop in genuine:
            fake, _ = self._pseudo(crop, index, rng)
            place, channel = self.channel.draw(crop.shape[0], rng)
            stacks.append(np.stack([channel(place(picture)) for picture in (crop, fake)]))
            origins += [CHANNELLED, PSEUDO]
            methods += [0, len(self.methods)]
        x = self.preprocess(np.concatenate(stacks))
        origin = torch.tensor(origins)
        return {
            "x": x,
            "label": ((origin == LABELLED) | (origin == PSEUDO)).long(),
            "method": torch.tensor(methods),
            "clip": torch.full((len(x),), index),
            "origin": origin,
        }

    # -- crops ----------------------------------------------------------------------------------------------

    def _one_crop(self, row: dict, rng: np.random.Generator) -> np.ndarray:
        return self._crop_at(row, rng.random())

    def _crop_at(self, row: dict, moment: float) -> np.ndarray:
        """uint8 (s, s, 3): of the first track with crops, that part of the way through it."""
        name = row["file"]
        if name in self._counts:
            count = self._counts[name][1]
            if (found := self._kept.get((name, min(int(moment * count), count - 1)))) is not None:
                return found
        with self.prepared.clip_file(row) as file:
            self._counts[name] = track, count = _first_track(file.meta["tracks"])
            number = min(int(moment * count), count - 1)
            crop = file.crop(track, number)
        if self._space >= crop.nbytes:
            self._space -= crop.nbytes
            self._kept[name, number] = crop
        return crop

    def _spread_crops(self, row: dict) -> np.ndarray:
        with self.prepared.clip_file(row) as file:
            track, count = _first_track(file.meta["tracks"])
            return np.stack([file.crop(track, int(k)) for k in spread(count, self.crops)])

    # -- partners -------------------------------------------------------------------------------------------

    @cached_property
    def _pool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows among which partners are looked for (P,), how they look (P, D), and whose they are (P,)."""
        rng = np.random.default_rng(self.seed)
        chosen = np.sort(rng.permutation(len(self))[:POOL])
        looks = np.stack([_look(self._crop_at(self._rows[row], 0.0)) for row in chosen])
        return chosen, looks, np.array([self._owner(row) for row in chosen])

    def _owner(self, index: int) -> str:
        row = self._rows[index]
        return str(next(row[name] for name in ("subject", "source", "key") if pd.notna(row[name])))

    def _partner(self, genuine: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
        """The most alike in pose and light of some faces of other people."""
        rows, looks, owners = self._pool
        others = np.flatnonzero(owners != self._owner(index))
        drawn = others[rng.integers(len(others), size=DRAWN)]
        nearest = drawn[int(np.argmin(((looks[drawn] - _look(genuine)) ** 2).sum(1)))]
        return self._crop_at(self._rows[rows[nearest]], 0.0)


def _resized(crop: np.ndarray, size: int) -> np.ndarray:
    """What `VisualPreprocess` does to the size, on whole numbers: a fifth of the time."""
    if crop.shape[0] == size:
        return crop
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR))


def _first_track(tracks: list[dict]) -> tuple[int, int]:
    """Position and number of crops of the first track that has some."""
    for place, track in enumerate(tracks):
        if track["crops"]:
            return place, track["crops"]
    raise ValueError("it has no face crop")


def _look(crop: np.ndarray) -> np.ndarray:
    """float32 (100,): the crop in coarse grey, without mean and contrast."""
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (10, 10), interpolation=cv2.INTER_AREA)
    values = grey.ravel().astype(np.float32)
    return (values - values.mean()) / (values.std() + 4.0)
