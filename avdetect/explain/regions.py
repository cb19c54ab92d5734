"""LIME and KernelSHAP, by captum, over regions that have a name: parts of a face, bands by time, pieces of time."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from avdetect.explain.gradients import captum_attr, seeded
from avdetect.explain.views import View

PER_BATCH = 16
SUPERPIXELS = 36
BANDS, TIMES = 8, 8  # of a sound
PIECES, SHORTEST = 30, 5  # of mouths: at most so many, each of at least so many frames
# places of parts from the landmarks: (from the middle between the eyes, along the eyes' line and towards the mouth),
# in distances of the eyes from each other and from the mouth
PARTS = {
    "left eye": (-0.5, 0.0), "right eye": (0.5, 0.0), "nose": (0.0, 0.5), "mouth": (0.0, 1.0),
    "forehead": (0.0, -0.7), "left cheek": (-0.75, 0.6), "right cheek": (0.75, 0.6), "chin": (0.0, 1.5),
    "left jaw": (-0.65, 1.2), "right jaw": (0.65, 1.2), "left edge": (-1.5, 0.3), "right edge": (1.5, 0.3),
    "hair": (0.0, -1.4), "top left corner": (-1.3, -1.2), "top right corner": (1.3, -1.2), "neck": (0.0, 2.1),
    "bottom left corner": (-1.3, 1.7), "bottom right corner": (1.3, 1.7),
}  # fmt: skip
KERNEL_WIDTH = 0.25  # of LIME's weights, in cosine distance, as its authors have it for pictures


def kernel_shap(view: View, x: Tensor) -> Tensor:
    """Shapley values of regions (Lundberg and Lee, NeurIPS 2017): x (N, …) -> (N, *places), the same in a region."""
    return _by_region(view, x, captum_attr().KernelShap(view))


def lime(view: View, x: Tensor) -> Tensor:
    """Weights of a linear model of regions near x (Ribeiro et al., KDD 2016): x (N, …) -> (N, *places)."""
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    near = get_exp_kernel_similarity_function("cosine", KERNEL_WIDTH)
    return _by_region(view, x, captum_attr().Lime(view, SkLearnRidge(alpha=0.01), near))


def _by_region(view: View, x: Tensor, method: object) -> Tensor:
    rows = []
    for one in x.detach().split(1):
        regions = regions_of(view, one)
        names = torch.unique(regions)
        with torch.no_grad(), seeded():
            weights = method.attribute(
                one, baselines=view.baseline(one), feature_mask=view.spread(regions[None], one),
                n_samples=4 * len(names) + 128, perturbations_per_eval=PER_BATCH, return_input_shape=False,
            )  # fmt: skip
        rows.append(weights.reshape(-1).to(regions.device)[regions])
    return torch.stack(rows).float()


def regions_of(view: View, one: Tensor) -> Tensor:
    """Whole numbers from 0 on for the places of ONE input (1, …), the same for what is taken away together."""
    places = view.places(one)
    if view.modality == "visual":
        picture = one.reshape(-1, 3, *places)[0]  # of a pair, the frame that is judged
        regions = face_parts(picture, view.encoder.preprocess)
        return torch.from_numpy(superpixels(picture) if regions is None else regions).to(one.device)
    if view.modality == "audio":
        rows, columns = (_pieces(size, most) for size, most in zip(places, (BANDS, TIMES), strict=True))
        return (rows[:, None] * (int(columns.max()) + 1) + columns[None]).to(one.device)
    return _pieces(places[0], min(PIECES, max(2, places[0] // SHORTEST))).to(one.device)


def _pieces(size: int, most: int) -> Tensor:
    """(size,) int64: 0 … most - 1 in order, in equal shares."""
    return torch.arange(size) * min(most, size) // size


def face_parts(picture: Tensor, preprocess) -> np.ndarray | None:
    """Preprocessed crop (3, S, S) -> numbers of `PARTS` (S, S), from the landmarks that MTCNN finds; None without."""
    from avdetect.media.faces import default_detector

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = ((picture.cpu() * std + mean).clamp(0, 1) * 255).round()
    shown = F.interpolate(pixels[None], size=(160, 160), mode="bilinear", antialias=True)[0]
    found = default_detector().detect([shown.byte().permute(1, 2, 0).contiguous().numpy()], 60)[0]
    if not len(found.boxes):
        return None
    marks = found.landmarks[int(found.probs.argmax())] * (picture.shape[-1] / 160)
    return _nearest_part(marks, picture.shape[-1])


def _nearest_part(marks: np.ndarray, side: int) -> np.ndarray | None:
    """Landmarks (5, 2): eyes, nose, corners of the mouth -> the number of the nearest part for each pixel."""
    eyes, mouth = marks[:2].mean(0), marks[3:].mean(0)
    across, down = marks[1] - marks[0], mouth - eyes
    if abs(np.cross([*across, 0], [*down, 0])[2]) < 1e-3 * side:
        return None  # on one line: no face from which parts could be told
    centres = np.array([eyes + a * across + d * down for a, d in PARTS.values()])
    y, x = np.mgrid[:side, :side] + 0.5
    nearest = ((x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2).argmin(-1)
    return np.unique(nearest, return_inverse=True)[1].reshape(side, side)


def superpixels(picture: Tensor) -> np.ndarray:
    """(3, S, S) -> numbers (S, S) of areas of one colour: k-means over place and colour, as SLIC."""
    side, small = picture.shape[-1], 48
    colours = F.interpolate(
        picture[None].cpu().float(), size=(small, small), mode="bilinear", antialias=True
    )[0]
    y, x = np.mgrid[:small, :small] * (6.0 / small)  # places weigh as much as the step between superpixels
    points = np.stack([y, x, *(colours.numpy() * 0.5)], axis=-1).reshape(-1, 5)
    steps = np.mgrid[:6, :6].reshape(2, -1).T + 0.5
    begin = np.concatenate([steps, points[(steps @ [8 * small, 8]).astype(int), 2:]], axis=1)
    labels = KMeans(SUPERPIXELS, init=begin, n_init=1, max_iter=10).fit_predict(points)
    large = F.interpolate(torch.from_numpy(labels.reshape(1, 1, small, small)).float(), size=(side, side))
    return np.unique(large[0, 0].long().numpy(), return_inverse=True)[1].reshape(side, side)
