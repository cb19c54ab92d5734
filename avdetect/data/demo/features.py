"""The parts of a face that move, painted onto a texture: eyes that blink and look about, lips that open."""

import numpy as np

from avdetect.data.demo.faces import CENTRE, UNIT, Face, Head, Light, X, Y, bump, step

EDGE = 0.02  # softness of painted edges, in head units
SCLERA, HOLE, TEETH, TONGUE = np.array(
    [(228, 224, 220), (52, 20, 20), (214, 206, 192), (150, 72, 70)], dtype=np.float32
)
EYE_STATES = 6  # steps from open to shut


class Painter:
    """Paints one lit head with its eyes and mouth in any state.

    Eyes are kept for every (lid, gaze) seen; the mouth is drawn each time.
    """

    def __init__(self, face: Face, head: Head, light: Light) -> None:
        self.face, self.head, self.light = face, head, light
        self.still = np.dstack([np.clip(head.rgb, 0, 255), head.alpha * 255]).astype(np.uint8)
        self._eyes: dict[tuple[int, float, float], np.ndarray] = {}
        top, bottom = face.eye_y - 0.15, face.eye_y + 0.15
        self._eye_box = _box(-0.56, top, 0.56, bottom)
        self._mouth_box = _box(-0.40, face.mouth_y - 0.14, 0.40, face.mouth_y + 0.40)
        self._mouth_light = head.shade[self._mouth_box][..., None] * light.tint.astype(np.float32)
        self._lips = face.lips.astype(np.float32)

    def paint(self, opening: float, rounding: float, lid: float, gaze: tuple[float, float]) -> np.ndarray:
        """Texture (S, S, 4) uint8 RGBA in a state.

        Args:
            opening, rounding, lid: 0..1, of the mouth, of the lips, of the eyes (1 = shut).
            gaze: right and down, -1..1.
        """
        image = self.still.copy()
        rows, columns = self._eye_box
        image[rows, columns, :3] = self._eyes_at(int(round(lid * (EYE_STATES - 1))), gaze)
        rows, columns = self._mouth_box
        image[rows, columns, :3] = self._mouth(opening, rounding)
        return image

    def _eyes_at(self, state: int, gaze: tuple[float, float]) -> np.ndarray:
        key = (state, *gaze)
        if key not in self._eyes:
            self._eyes[key] = self._paint_eyes(state / (EYE_STATES - 1), gaze)
        return self._eyes[key]

    def _paint_eyes(self, lid: float, gaze: tuple[float, float]) -> np.ndarray:
        face = self.face
        rows, columns = self._eye_box
        rgb = self.head.rgb[rows, columns].copy()
        shade = self.head.shade[rows, columns][..., None] * self.light.tint
        for side in (-1, 1):
            x = X[rows, columns] * side - face.eye_x
            y = Y[rows, columns] - face.eye_y + face.eye_tilt * x / face.eye_width
            t = np.clip(1 - (x / face.eye_width) ** 2, 0, 1)
            upper = -face.eye_height * t**0.75 * (1 - lid) + face.eye_height * 0.55 * t * lid
            lower = face.eye_height * 0.72 * t
            inside = (
                step(y - upper, EDGE) * step(lower - y, EDGE) * step(1 - np.abs(x) / face.eye_width, 0.12)
            )
            radius = np.hypot(x - side * gaze[0] * 0.035, y - gaze[1] * 0.02)
            colour = np.full(rgb.shape, SCLERA)
            colour *= (1 - 0.28 * bump(x, y + face.eye_height, 1.0, 0.05))[..., None]
            iris = step(0.062 - radius, EDGE)[..., None]
            colour = colour * (1 - iris) + face.iris * (0.7 + 4.0 * radius[..., None]) * iris
            pupil = step(0.026 - radius, EDGE)[..., None]
            colour = colour * (1 - pupil) + 14 * pupil
            spot = bump(x - side * 0.02 * np.sign(self.light.direction[0]), y + 0.02, 0.013, 0.013)[..., None]
            colour = colour * shade * 0.95 + 190 * spot
            rgb = rgb * (1 - inside[..., None]) + colour * inside[..., None]
            in_eye = step(1.08 - np.abs(x) / face.eye_width, 0.2)
            lash = bump(0 * x, y - upper, 1.0, 0.016) * in_eye
            crease = bump(0 * x, y + face.eye_height * (1.6 - 0.5 * lid) * t**0.6 + 0.01, 1.0, 0.013) * in_eye
            rim = bump(0 * x, y - lower, 1.0, 0.012) * in_eye
            rgb *= (1 - 0.78 * lash - 0.28 * crease - 0.18 * rim)[..., None]
        return np.clip(rgb, 0, 255)

    def _mouth(self, opening: float, rounding: float) -> np.ndarray:
        face = self.face
        rows, columns = self._mouth_box
        x, y = X[rows, columns], Y[rows, columns] - np.float32(face.mouth_y)
        rgb, shade = self.head.rgb[rows, columns], self._mouth_light
        width = face.mouth_width * (1 - 0.32 * rounding + 0.04 * opening)
        t = np.clip(1 - (x / width) ** 2, 0, 1)
        upper, lower = -mouth_gap(opening) * 0.25 * t**0.7, mouth_gap(opening) * 0.75 * t**0.7
        thick = 1 + 0.3 * rounding - 0.15 * opening
        bow = 1 - 0.22 * bump(x, 0 * x, 0.04, 1.0)
        top = upper - face.upper_lip * thick * bow * t**0.6
        bottom = lower + face.lower_lip * thick * t**0.7
        lips = (step(y - top, EDGE) * step(bottom - y, EDGE) * (t > 0))[..., None]
        across = np.where(
            y > 0.5 * (upper + lower), (y - lower) / face.lower_lip, (upper - y) / face.upper_lip
        )
        light = (1.0 + 0.22 * np.clip(1 - np.abs(across - 0.5) * 2, 0, 1) * (y > 0) - 0.1 * (y < 0))[
            ..., None
        ]
        rgb = rgb * (1 - lips) + self._lips * (shade * light) * lips
        gap = lower - upper
        hole = (step(y - upper, EDGE) * step(lower - y, EDGE) * step(gap - 0.012, 0.02))[..., None]
        inside = np.full(rgb.shape, HOLE)
        teeth = (step(upper + 0.055 - y, 0.015) * step(0.85 - np.abs(x) / width, 0.1))[..., None]
        inside = inside * (1 - teeth) + TEETH * (0.85 * shade) * teeth
        tongue = (bump(x, y - lower, width * 0.6, 0.06) * 0.8)[..., None]
        inside = inside * (1 - tongue) + TONGUE * (0.8 * shade) * tongue
        rgb = rgb * (1 - hole) + inside * hole
        seam = bump(0 * x, y - upper, 1.0, 0.012) * step(1.02 - np.abs(x) / width, 0.12)
        shadow = bump(x, y - bottom - 0.035, width * 0.7, 0.03)
        return np.clip(rgb * (1 - 0.5 * seam - 0.16 * shadow)[..., None], 0, 255)


def mouth_gap(opening: float) -> float:
    """Distance between the lips in head units for an opening of 0..1."""
    return 0.27 * opening


def _box(x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
    def pixel(v: float) -> int:
        return int(round(v * UNIT + CENTRE))

    return slice(pixel(y0), pixel(y1)), slice(pixel(x0), pixel(x1))
