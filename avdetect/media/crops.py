"""Square crops of faces and mouths."""

from __future__ import annotations

import numpy as np
from PIL import Image

from avdetect.media.settings import ClipSettings

FACE_MARGIN = 0.4  # SyncNet's crop_scale: how far its face crop reaches beyond the box, in half sides
FACE_FILL = 110  # grey that SyncNet's pipeline puts where the face crop leaves the frame


def crop_box(box: np.ndarray, margin: float) -> np.ndarray:
    """Square (x0, y0, x1, y1) around a face `box`: side (1 + 2 margin) max(w, h), same centre, in pixels."""
    x0, y0, x1, y1 = (float(value) for value in box)
    half = (1 + 2 * margin) * max(x1 - x0, y1 - y0) / 2
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.array([centre_x - half, centre_y - half, centre_x + half, centre_y + half])


def region_geometry(box: np.ndarray, landmarks: np.ndarray, settings: ClipSettings) -> np.ndarray:
    """(centre x, centre y, side), pixels, of the square that `region_box` makes the lip-sync crop from.

    `landmarks` (5, 2) are MTCNN's points: eyes, nose, mouth corners (rows 3 and 4). "mouth": centred on the
    middle of the mouth corners, `mouth_scale` times the height of the face box. "face": centre and longer
    side of the face box.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if settings.mouth_region == "face":
        return np.array([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)])
    centre = np.asarray(landmarks, np.float64)[3:5].mean(axis=0)
    return np.array([centre[0], centre[1], settings.mouth_scale * (y1 - y0)])


def region_box(geometry: np.ndarray, region: str) -> np.ndarray:
    """(x0, y0, x1, y1) of (centre x, centre y, side).

    "mouth": that square. "face": with s = side / 2 and c = 0.4, x from -s (1 + c) to s (1 + c) and y from -s
    to s (1 + 2 c), as in SyncNet's pipeline: a square again, shifted down to the chin.
    """
    x, y, side = geometry
    half = side / 2
    if region == "face":
        reach = half * (1 + FACE_MARGIN)
        return np.array([x - reach, y - half, x + reach, y + half * (1 + 2 * FACE_MARGIN)])
    return np.array([x - half, y - half, x + half, y + half])


def cut(
    image: np.ndarray, box: np.ndarray, size: int, filter: Image.Resampling, fill: int | None = None
) -> np.ndarray:
    """`box` of `image` (H, W[, 3]) uint8 resized to (size, size[, 3]), sub-pixel exact, antialiased.

    What lies outside the image has the value `fill`, or repeats the image's edge (None), so that a crop is
    always square and unscaled.
    """
    height, width = image.shape[:2]
    x0, y0 = (int(np.floor(value)) for value in box[:2])
    x1, y1 = (max(low + 1, int(np.ceil(value))) for low, value in zip((x0, y0), box[2:], strict=True))
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        patch = image[y0:y1, x0:x1]
    else:
        rows, columns = np.arange(y0, y1), np.arange(x0, x1)
        patch = image[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        if fill is not None:
            patch[(rows < 0) | (rows >= height)] = fill
            patch[:, (columns < 0) | (columns >= width)] = fill
    inner = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
    picture = Image.fromarray(np.ascontiguousarray(patch))
    return np.asarray(picture.resize((size, size), filter, box=inner))


def cut_tight(rgb: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """What lies in `box` and in the frame, and nothing around it, in the middle of a black (size, size, 3).

    Its longer side becomes `size`, as in the "tight" policy of Bonettini et al., Video Face Manipulation
    Detection Through Ensemble of CNNs (2020).
    """
    height, width = rgb.shape[:2]
    x0, y0 = np.clip(box[:2], 0, (width - 1, height - 1))
    x1, y1 = np.clip(box[2:], (x0 + 1, y0 + 1), (width, height))
    scale = size / max(x1 - x0, y1 - y0)
    inner_width, inner_height = (min(size, max(1, round(float(side) * scale))) for side in (x1 - x0, y1 - y0))
    left, top = int(x0), int(y0)
    patch = rgb[top : int(np.ceil(y1)), left : int(np.ceil(x1))]
    face = Image.fromarray(np.ascontiguousarray(patch)).resize(
        (inner_width, inner_height),
        Image.Resampling.BICUBIC,
        box=(x0 - left, y0 - top, x1 - left, y1 - top),
    )
    square = np.zeros((size, size, 3), np.uint8)
    row, column = (size - inner_height) // 2, (size - inner_width) // 2
    square[row : row + inner_height, column : column + inner_width] = face
    return square


def cut_face(rgb: np.ndarray, box: np.ndarray, settings: ClipSettings) -> np.ndarray:
    """(crop_size, crop_size, 3) uint8 face crop of a full-resolution RGB frame, after `crop_policy`."""
    if settings.crop_policy == "tight":
        return cut_tight(rgb, box, settings.crop_size)
    square = crop_box(box, settings.crop_margin)
    return cut(rgb, square, settings.crop_size, Image.Resampling.BICUBIC)


def cut_region(image: np.ndarray, geometry: np.ndarray, settings: ClipSettings) -> np.ndarray:
    """(mouth_size, mouth_size[, 3]) uint8 lip-sync crop of a full-resolution luma plane or RGB frame."""
    fill = FACE_FILL if settings.mouth_region == "face" else None
    box = region_box(geometry, settings.mouth_region)
    return cut(image, box, settings.mouth_size, Image.Resampling.BILINEAR, fill)
