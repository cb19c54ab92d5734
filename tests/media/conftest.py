"""Media made for the tests: coloured rectangles for faces, a detector that finds them, clicks for speech."""

from fractions import Fraction

import av
import numpy as np
import pytest

from avdetect.media import Detections

FACE_COLOURS = {"magenta": (255, 0, 255), "green": (0, 255, 0)}


class ColourDetector:
    """Takes each coloured rectangle for a face whose mouth is at 3/4 of its height."""

    def __init__(self):
        self.shapes = []

    def detect(self, images, min_face_px):
        self.shapes += [image.shape for image in images]
        return [self._one(image.astype(int)) for image in images]

    def _one(self, image):
        boxes = []
        for colour in FACE_COLOURS.values():
            rows, columns = np.nonzero(np.abs(image - colour).max(axis=2) < 90)
            if len(rows) > 20:
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        if not boxes:
            return Detections.none()
        boxes = np.array(boxes, np.float32)
        points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)
        landmarks = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
        return Detections(boxes, np.full(len(boxes), 0.999, np.float32), landmarks)


@pytest.fixture
def detector():
    return ColourDetector()


def picture(width=160, height=120, faces=(("magenta", (40, 20, 100, 100)),), mouth=0):
    """(H, W, 3) uint8 grey background with rectangular faces whose mouth has the grey value `mouth`."""
    image = np.full((height, width, 3), 60, np.uint8)
    for colour, (x0, y0, x1, y1) in faces:
        image[y0:y1, x0:x1] = FACE_COLOURS[colour]
        x, y = (x0 + x1) // 2, y0 + 3 * (y1 - y0) // 4
        image[y - 8 : y + 8, x - 12 : x + 12] = mouth
    return image


def click_track(seconds, at, rate=48000):
    """Silence with a 2 ms burst beginning `at` seconds from its first sample."""
    samples = np.zeros(round(seconds * rate), np.float32)
    begin = round(at * rate)
    samples[begin : begin + rate // 500] = 0.9
    return samples


def write_video(
    path,
    frames,
    times=None,
    fps=25,
    codec="libx264",
    pix_fmt="yuv420p",
    rotation=0,
    hflip=False,
    sound=None,
    sound_start=0.0,
    rate=48000,
    audio_codec="aac",
    options=None,
    container_options=None,
):
    """Write `frames` (iterable of RGB arrays) at `times` (seconds; default index / fps) and mono `sound`."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = audio = None
        clock = Fraction(1, 12800)
        for index, frame in enumerate(frames):
            if video is None:
                video = container.add_stream(
                    codec, rate=fps, options=options or {"crf": "12", "preset": "ultrafast"}
                )
                video.height, video.width = frame.shape[:2]
                video.pix_fmt = pix_fmt
                video.codec_context.time_base = clock
                if rotation or hflip:
                    video.set_display_rotation(rotation, hflip=hflip)
                if sound is not None:
                    audio = container.add_stream(audio_codec, rate=rate)
                    audio.layout = "mono"
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts = round((index / fps if times is None else times[index]) / clock)
            picture.time_base = clock
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None:
            write_sound(container, audio, sound, sound_start, rate)
    return path


def write_sound(container, stream, sound, start, rate):
    fmt = stream.codec_context.format.name
    resampler = av.AudioResampler(format=fmt, layout="mono", rate=rate)
    for begin in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[None, begin : begin + 1024]), "fltp", "mono"
        )
        frame.rate, frame.pts, frame.time_base = rate, round(start * rate) + begin, Fraction(1, rate)
        for piece in resampler.resample(frame):
            container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


@pytest.fixture
def media():
    """The makers above, for tests that may not import from one another."""

    class Media:
        picture = staticmethod(picture)
        click_track = staticmethod(click_track)
        write_video = staticmethod(write_video)
        write_sound = staticmethod(write_sound)

    return Media
