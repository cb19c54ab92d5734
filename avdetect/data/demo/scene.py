"""What stands around a head and how it moves: background, shoulders, pose by time, and the camera's grain."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from avdetect.data.demo.faces import CENTRE, SIZE, UNIT, Face, Light, octaves
from avdetect.data.demo.features import mouth_gap
from avdetect.data.demo.speech import smooth_noise

SHAPES = ((256, 256), (288, 256), (320, 256), (256, 288))  # width, height in pixels
MESH_CELLS = 7


@dataclass(frozen=True)
class Motion:
    """Pose by frame, (F,) each: head centre in pixels, pixels per unit, roll in radians, turns relative."""

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    lid: np.ndarray  # 0 open .. 1 shut
    gaze: list[tuple[float, float]]


@dataclass(frozen=True)
class Camera:
    """Width and height in pixels, blur radius in pixels, standard deviation of the grain in grey levels."""

    size: tuple[int, int]
    blur: float
    grain: float


def random_camera(rng: np.random.Generator) -> Camera:
    """Draw a frame size, a focus and a sensor."""
    return Camera(SHAPES[rng.integers(len(SHAPES))], max(0.0, rng.uniform(-0.5, 0.9)), rng.uniform(1.2, 3.0))


def random_motion(camera: Camera, frames: int, fps: float, rng: np.random.Generator) -> Motion:
    """Draw a place for the head and let it sway, nod, turn and blink."""
    width, height = camera.size
    scale = rng.uniform(0.76, 0.96) * 100 * min(width, height) / 256
    lively = rng.uniform(0.5, 1.2)

    def sway(amount: float) -> np.ndarray:
        return amount * lively * smooth_noise(frames, rng.uniform(0.3, 0.7) * fps, rng)

    gazes = [(float(a), float(b)) for a, b in rng.uniform(-0.8, 0.8, (3, 2)).round(1)]
    when = np.sort(rng.integers(0, max(frames, 1), 2))
    return Motion(
        x=width * rng.uniform(0.43, 0.57) + sway(2.5),
        y=height * rng.uniform(0.44, 0.48) + sway(1.8),
        scale=scale * (1 + sway(0.008)),
        roll=rng.normal(0, 0.04) + sway(0.025),
        yaw=rng.normal(0, 0.06) + sway(0.05),
        pitch=rng.normal(0, 0.03) + sway(0.03),
        lid=_blinks(frames, fps, rng),
        gaze=[gazes[int(np.searchsorted(when, f, "right"))] for f in range(frames)],
    )


def _blinks(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    lid = np.full(frames, rng.uniform(0.0, 0.12))
    times = np.arange(frames) / fps
    at = rng.exponential(1.5)
    while at < frames / fps:
        lid = np.maximum(lid, np.clip(1.3 - np.abs(times - at) / 0.08, 0, 1))
        at += 0.4 + rng.exponential(2.5)
    return lid


def paint_backdrop(
    face: Face, light: Light, camera: Camera, motion: Motion, rng: np.random.Generator
) -> Image.Image:
    """Room, neck and shoulders, which stay still behind the head. RGB image of the camera's size."""
    width, height = camera.size
    wall = rng.uniform(50, 205, 3) * 0.5 + rng.uniform(60, 200) * 0.5
    field = octaves((height, width), (2, 5, 11), rng)
    pixels = (wall + field[..., None] * rng.uniform(4, 22, 3)) * light.tint
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 7)):  # shelves, frames, doors
        x, y = rng.uniform(-0.2, 1, 2) * camera.size
        w, h = rng.uniform(0.05, 0.5, 2) * camera.size
        colour = tuple(int(c) for c in np.clip(wall + rng.uniform(-60, 60) + rng.uniform(-25, 25, 3), 0, 255))
        draw.rectangle((x, y, x + w, y + h), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    _paint_body(image, face, light, motion, rng)
    return image


def _paint_body(
    image: Image.Image, face: Face, light: Light, motion: Motion, rng: np.random.Generator
) -> None:
    width, height = image.size
    layer = Image.new("RGBA", (width * 2, height * 2), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    x, y, unit = 2 * motion.x.mean(), 2 * motion.y.mean(), 2 * motion.scale.mean()

    def colour(rgb: np.ndarray, level: float) -> tuple[int, ...]:
        return tuple(int(c) for c in np.clip(rgb * light.tint * level, 0, 255)) + (255,)

    def ellipse(x0: float, y0: float, x1: float, y1: float, fill: tuple[int, ...]) -> None:
        draw.ellipse((x + x0 * unit, y + y0 * unit, x + x1 * unit, y + y1 * unit), fill=fill)

    if face.hair_length > 0:
        edge = face.width + 0.5 * face.hair_volume
        ellipse(-edge, -0.9, edge, face.hair_length + 0.35, colour(face.hair, 0.6))
    cloth = rng.uniform(20, 220, 3)
    shoulder = rng.uniform(1.35, 1.7)
    ellipse(-shoulder, 1.12, shoulder, 4.2, colour(cloth, 0.9))
    ellipse(-0.62, 1.0, 0.62, 1.5, colour(cloth, 0.75))
    neck = rng.uniform(0.40, 0.50)
    draw.rectangle(
        (x - neck * unit, y + 0.4 * unit, x + neck * unit, y + 1.2 * unit), fill=colour(face.skin, 0.68)
    )
    ellipse(-neck, 1.0, neck, 1.42, colour(face.skin, 0.72))
    ellipse(-0.5, 0.55, 0.5, 1.10, colour(face.skin, 0.55))
    stripes = int(rng.integers(0, 9))
    for i in range(stripes):
        at = x + 1.6 * shoulder * ((i + 0.5) / stripes - 0.5) * unit
        draw.line(
            (at, y + 1.62 * unit, at, y + 4 * unit), fill=colour(cloth, 0.7), width=int(0.05 * unit) + 1
        )
    layer = layer.filter(ImageFilter.GaussianBlur(2.0)).resize((width, height), Image.Resampling.BOX)
    image.paste(layer, (0, 0), layer)


def place_head(
    backdrop: Image.Image, texture: np.ndarray, motion: Motion, frame: int, opening: float
) -> Image.Image:
    """Warp a head's texture (S, S, 4) uint8 to its pose in one frame and lay it over the backdrop."""
    image = backdrop.copy()
    reach = 1.3 * motion.scale[frame]
    x0, y0 = int(max(0, motion.x[frame] - reach)), int(max(0, motion.y[frame] - reach))
    x1 = int(min(image.width, motion.x[frame] + reach))
    y1 = int(min(image.height, motion.y[frame] + reach))
    columns = np.linspace(0, x1 - x0, MESH_CELLS + 1).round().astype(int)
    rows = np.linspace(0, y1 - y0, MESH_CELLS + 1).round().astype(int)
    grid = _texture_points(columns[None, :] + x0, rows[:, None] + y0, motion, frame, mouth_gap(opening))
    mesh = []
    for r in range(MESH_CELLS):
        for c in range(MESH_CELLS):
            corners = grid[[r, r + 1, r + 1, r], [c, c, c + 1, c + 1]].ravel()
            mesh.append(((columns[c], rows[r], columns[c + 1], rows[r + 1]), tuple(corners)))
    head = Image.fromarray(texture).transform(
        (x1 - x0, y1 - y0), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR
    )
    image.paste(head, (x0, y0), head)
    return image


def _texture_points(x: np.ndarray, y: np.ndarray, motion: Motion, frame: int, gap: float) -> np.ndarray:
    """Where on the texture the frame's pixels (x, y) come from: place, size, roll, turns and jaw undone."""
    u = (x - motion.x[frame]) / motion.scale[frame]
    v = (y - motion.y[frame]) / motion.scale[frame]
    sine, cosine = np.sin(motion.roll[frame]), np.cos(motion.roll[frame])
    u, v = cosine * u + sine * v, cosine * v - sine * u
    near = np.exp(-(u**2) / 0.45 - v**2 / 0.8)  # the middle of the face is nearer
    jaw = 0.45 * gap * np.clip((v - 0.6) / 0.3, 0, 1) * np.exp(-((u / 0.7) ** 2)) * (v < 1.25)
    points = np.stack([u - motion.yaw[frame] * near, v - motion.pitch[frame] * near - jaw], axis=-1)
    return np.clip(points * UNIT + CENTRE, -4, SIZE + 4)


class Grain:
    """The camera's last step, the same for genuine and manipulated clips: blur, then noise."""

    def __init__(self, camera: Camera, rng: np.random.Generator) -> None:
        width, height = camera.size
        luma = rng.standard_normal((height + 64, width + 64, 1))
        colour = rng.standard_normal((height + 64, width + 64, 3))
        self._noise = (camera.grain * (luma + 0.4 * colour)).round().astype(np.int16)
        self._camera = camera
        self._rng = rng

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image -> (H, W, 3) uint8."""
        if self._camera.blur > 0.2:
            image = image.filter(ImageFilter.GaussianBlur(self._camera.blur))
        row, column = self._rng.integers(0, 64, 2)
        height, width = image.height, image.width
        noise = self._noise[row : row + height, column : column + width]
        if self._rng.random() < 0.5:
            noise = -noise
        return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
