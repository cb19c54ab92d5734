"""Square crops of faces and mouths, with edges replicated where they leave the frame."""

from __future__ import annotations

import numpy as np
from PIL import Image


def crop_box(box: np.ndarray, margin: float) -> np.ndarray:
    """Square (x0, y0, x1, y1) around a face `box`: side (1 + 2 margin) max(w, h), same centre, in pixels."""
    x0, y0, x1, y1 = (float(value) for value in box)
    half = (1 + 2 * margin) * max(x1 - x0, y1 - y0) / 2
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.array([centre_x - half, centre_y - half, centre_x + half, centre_y + half])


def mouth_geometry(box: np.ndarray, landmarks: np.ndarray, scale: float) -> np.ndarray:
    """(centre x, centre y, side) of the mouth square, pixels.

    `landmarks` (5, 2) are MTCNN's points: eyes, nose, mouth corners (rows 3 and 4). The square is centred on
    the middle of the mouth corners; its side is `scale` times the height of the face box.
    """
    centre = np.asarray(landmarks, np.float64)[3:5].mean(axis=0)
    return np.array([centre[0], centre[1], scale * float(box[3] - box[1])])


def square(geometry: np.ndarray) -> np.ndarray:
    """(x0, y0, x1, y1) of (centre x, centre y, side)."""
    x, y, side = geometry
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def cut(image: np.ndarray, box: np.ndarray, size: int, filter: Image.Resampling) -> np.ndarray:
    """`box` of `image` (H, W[, 3]) uint8 resized to (size, size[, 3]), sub-pixel exact, antialiased.

    What lies outside the image repeats its edge, so that a crop is always square and unscaled.
    """
    height, width = image.shape[:2]
    x0, y0 = (int(np.floor(value)) for value in box[:2])
    x1, y1 = (max(low + 1, int(np.ceil(value))) for low, value in zip((x0, y0), box[2:], strict=True))
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        patch = image[y0:y1, x0:x1]
    else:
        rows = np.clip(np.arange(y0, y1), 0, height - 1)
        columns = np.clip(np.arange(x0, x1), 0, width - 1)
        patch = image[rows[:, None], columns]
    inner = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
    picture = Image.fromarray(np.ascontiguousarray(patch))
    return np.asarray(picture.resize((size, size), filter, box=inner))


def cut_face(rgb: np.ndarray, box: np.ndarray, margin: float, size: int) -> np.ndarray:
    """(size, size, 3) uint8 face crop of a full-resolution RGB frame."""
    return cut(rgb, crop_box(box, margin), size, Image.Resampling.BICUBIC)


def cut_mouth(luma: np.ndarray, geometry: np.ndarray, size: int) -> np.ndarray:
    """(size, size) uint8 mouth crop of a full-resolution luma plane."""
    return cut(luma, square(geometry), size, Image.Resampling.BILINEAR)
