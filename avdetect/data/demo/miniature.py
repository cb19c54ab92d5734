"""A bank of short drawn recordings, from which miniatures of datasets are cut.

A recording is rendered once per person and kind; every file is another piece of it, in time and in place, so
that no two files hold the same. Genuine and manipulated pieces share length, size, loudness and coding.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.signal import resample_poly
from threadpoolctl import threadpool_limits

from avdetect.data.demo import fakes, scene, speech
from avdetect.data.demo.clips import MARGIN_S, SUBJECT, Recording, write_mp4
from avdetect.data.demo.faces import paint_head, random_face, random_light
from avdetect.data.demo.features import Painter
from avdetect.errors import ConfigError

SUBJECTS = 8
KINDS = ("genuine", "face_swap", "voice_resynthesis", "both", "out_of_sync")
SWAPPED, RESYNTHESISED = ("face_swap", "both"), ("voice_resynthesis", "both")
VERSION = 1  # raise it when the same arguments give other recordings

FPS = 25
FRAMES = 75  # of a recording
SIDE, PLAY = 256, 32  # pixels of a full picture, and how far it can be moved
SOUND_S = FRAMES / FPS + 2 * MARGIN_S
LONGEST_S, LONGEST_SPEECH_S = FRAMES / FPS, SOUND_S - 0.5
SHIFT_S = 0.44  # of out_of_sync, to and fro in turn
LOUDNESS_DB = -24.0
BANK = 5  # stream of random numbers beside those of `clips` and `dataset`

Periods = Sequence[tuple[float, float]]


class _Pictures(NamedTuple):
    """Frames as JPEG files, and the head in each of them: centre x, y and unit of length in pixels (F, 3)."""

    frames: list[bytes]
    heads: np.ndarray


class Miniature:
    """Cuts files out of recordings of eight people (`subject` 0 to 7), genuine and manipulated.

    What is cut depends on `seed` and on what was cut before since `restart`. With a `folder` the recordings
    are kept there, for other objects and processes. Every method makes the folders that it needs and
    returns the path. Raises ConfigError for a person, a kind, a suffix or a length that there is not.
    """

    def __init__(self, folder: str | Path | None = None, seed: int = 0) -> None:
        self.folder = None if folder is None else Path(folder)
        self.seed = seed
        self._pictures: dict[tuple[int, bool], _Pictures] = {}
        self._sounds: dict[tuple[int, bool], np.ndarray] = {}
        self._cut: Counter = Counter()

    def restart(self) -> None:
        """Count the pieces from the first one again: the same calls then give the same files."""
        self._cut.clear()

    def video(
        self,
        path: str | Path,
        subject: int,
        kind: str = "genuine",
        seconds: float = 1.2,
        fps: float = 25,
        size: int = SIDE,
        sound: bool = True,
        periods: Periods | None = None,
    ) -> Path:
        """H.264 and AAC in an mp4 of `size` x `size` pixels, at most 3 s.

        kind: `genuine`, `face_swap`, `voice_resynthesis`, `both`, or `out_of_sync`; with `periods`, pairs of
        start and end in seconds, the face and the voice are manipulated there only.
        """
        if kind not in KINDS:
            raise ConfigError(f"A miniature has no kind {kind!r}: one of {', '.join(KINDS)}.")
        number = self._next(subject, "video", kind, seconds, LONGEST_S)
        rate = Fraction(fps).limit_denominator(1001)
        frames = round(seconds * rate)
        first, box = _place(number, FRAMES - math.ceil(seconds * FPS))
        start = MARGIN_S + first / FPS
        if kind == "out_of_sync":
            start += SHIFT_S if number % 2 else -SHIFT_S
        recording = Recording(frames, rate, 32000, LOUDNESS_DB, 20)
        audio = None
        if sound:
            audio = self._sound(subject, kind in RESYNTHESISED, start, seconds, periods)

        def pictures() -> Iterator[Image.Image]:
            for frame in range(frames):
                time = float(frame / rate)
                swapped = kind in SWAPPED and _inside(time, periods)
                image = self._frame(subject, swapped, min(first + int(time * FPS + 1e-6), FRAMES - 1))
                yield np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))

        path = _made(path)
        with threadpool_limits(1):
            write_mp4(path, pictures(), audio, recording)
        return path

    def image(self, path: str | Path, subject: int, fake: bool, size: int = SIDE) -> Path:
        """A face that fills a picture of `size` x `size` pixels (.png, .jpg); the fake's is swapped."""
        path = _made(path)
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ConfigError(f"A miniature picture is a .png or .jpg file, not {path.name}.")
        number = self._next(subject, "image", fake)
        self._face(subject, fake, number * 29 % FRAMES, number, size).save(path, quality=95)
        return path

    def images(
        self,
        folder: str | Path,
        subject: int,
        fake: bool,
        count: int,
        size: int = 224,
        start: int = 0,
    ) -> Path:
        """`count` consecutive face crops `NNN.png`, numbered from `start`; at most 75."""
        folder = Path(folder)
        number = self._next(subject, "images", fake, count / FPS, LONGEST_S)
        first = _place(number, FRAMES - count)[0]
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(count):
            image = self._face(subject, fake, first + frame, number, size)
            image.save(folder / f"{start + frame:03d}.png")
        return folder

    def speech(
        self, path: str | Path, subject: int, fake: bool, seconds: float = 1.5, rate: int = 16000
    ) -> Path:
        """Mono speech as .wav, .flac, .mp3 or .m4a at `rate` Hz, at most 4.5 s; the fake's is resynthesised."""
        path = _made(path)
        number = self._next(subject, "speech", fake, seconds, LONGEST_SPEECH_S)
        room = int((SOUND_S - seconds) * speech.RATE)
        audio = self._sound(subject, fake, number * 2657 % room / speech.RATE, seconds)
        common = math.gcd(rate, speech.RATE)
        audio = resample_poly(audio, rate // common, speech.RATE // common).astype(np.float32)
        _write_sound(path, audio, rate)
        return path

    def _next(self, subject: int, what: str, kind: object, seconds: float = 0, longest: float = 1) -> int:
        """Number of the next piece of a recording."""
        if not 0 <= subject < SUBJECTS:
            raise ConfigError(f"A miniature has the subjects 0 to {SUBJECTS - 1}, not {subject}.")
        if seconds > longest:
            raise ConfigError(f"A miniature {what} lasts at most {longest:g} s, not {seconds:g} s.")
        self._cut[subject, what, kind] += 1
        return self._cut[subject, what, kind] - 1

    def _frame(self, subject: int, swapped: bool, frame: int) -> Image.Image:
        return Image.open(io.BytesIO(self._recorded_pictures(subject, swapped).frames[frame]))

    def _face(self, subject: int, swapped: bool, frame: int, number: int, size: int) -> Image.Image:
        x, y, unit = self._recorded_pictures(subject, swapped).heads[frame]
        right, down = (np.array(_moved(number)) / PLAY - 0.5) * 0.1 * unit
        box = (x - 1.05 * unit + right, y - unit + down, x + 1.05 * unit + right, y + 1.1 * unit + down)
        image = self._frame(subject, swapped, frame)
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)

    def _sound(
        self, subject: int, fake: bool, start: float, seconds: float, periods: Periods | None = None
    ) -> np.ndarray:
        """(T,) float32 at speech.RATE from `start` seconds of the recording."""
        first, count = round(start * speech.RATE), round(seconds * speech.RATE)
        audio = self._recorded_sound(subject, fake)[first : first + count]
        if not fake or periods is None:
            return audio
        audio, manipulated = self._recorded_sound(subject, False)[first : first + count].copy(), audio
        for begin, end in periods:
            cut = slice(round(begin * speech.RATE), round(end * speech.RATE))
            audio[cut] = manipulated[cut]
        return audio

    def _recorded_pictures(self, subject: int, swapped: bool) -> _Pictures:
        if (subject, swapped) not in self._pictures:
            arrays = self._kept(f"pictures_{subject}_{int(swapped)}", lambda: self._render(subject, swapped))
            ends = arrays["ends"].tolist()
            content = arrays["frames"].tobytes()
            frames = [content[a:b] for a, b in zip([0, *ends], ends, strict=False)]
            self._pictures[subject, swapped] = _Pictures(frames, arrays["heads"])
        return self._pictures[subject, swapped]

    def _recorded_sound(self, subject: int, fake: bool) -> np.ndarray:
        if (subject, fake) not in self._sounds:
            arrays = self._kept(f"sound_{subject}_{int(fake)}", lambda: self._speak(subject, fake))
            self._sounds[subject, fake] = arrays["sound"]
        return self._sounds[subject, fake]

    def _kept(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of a recording from the folder, else made (and stored there)."""
        if self.folder is None:
            with threadpool_limits(1):
                return make()
        file = self.folder / f"v{VERSION}_{self.seed}_{name}.npz"
        if not file.exists():
            with threadpool_limits(1):
                arrays = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f".{file.stem}.{os.getpid()}.npz")
            np.savez(part, **arrays)
            os.replace(part, file)
        with np.load(file) as stored:
            return dict(stored)

    def _people(self, subject: int) -> tuple[np.random.Generator, np.random.Generator]:
        """Generators of a person's face and voice."""
        face, voice = np.random.default_rng([self.seed, SUBJECT, subject]).spawn(2)
        return face, voice

    def _utterance(self, subject: int) -> tuple[speech.Utterance, np.random.Generator]:
        rng = np.random.default_rng([self.seed, BANK, subject])
        voice = speech.random_voice(self._people(subject)[1])
        return speech.speak(voice, SOUND_S, rng), rng

    def _render(self, subject: int, swapped: bool) -> dict[str, np.ndarray]:
        utterance, rng = self._utterance(subject)
        camera, light = scene.Camera((SIDE + PLAY, SIDE + PLAY), 0.4, 2.0), random_light(rng)
        motion = scene.random_motion(camera, FRAMES, FPS, rng)
        face = random_face(self._people(subject)[0])
        painter = Painter(face, paint_head(face, light), light)
        backdrop = scene.paint_backdrop(face, light, camera, motion, rng)
        own = np.random.default_rng([self.seed, BANK, subject, int(swapped)])
        swap = None
        if swapped:
            other = random_face(self._people((subject + 1) % SUBJECTS)[0])
            swap = fakes.FaceSwap(face, Painter(other, paint_head(other, light), light), FRAMES, own)
        grain = scene.Grain(camera, own)
        times = MARGIN_S + np.arange(FRAMES) / FPS
        grid = np.arange(len(utterance.opening)) / speech.CONTROL_RATE
        mouth = [np.interp(times, grid, track) for track in (utterance.opening, utterance.rounding)]
        files = []
        for frame, (opening, rounding) in enumerate(zip(*mouth, strict=True)):
            state = (opening, rounding, motion.lid[frame], motion.gaze[frame])
            texture = painter.paint(*state)
            if swap is not None:
                texture = swap.apply(texture, frame, *state)
            pixels = grain(scene.place_head(backdrop, texture, motion, frame, opening))
            stored = io.BytesIO()
            Image.fromarray(pixels).save(stored, "JPEG", quality=95, subsampling=0)
            files.append(stored.getvalue())
        return {
            "frames": np.frombuffer(b"".join(files), np.uint8),
            "ends": np.cumsum([len(file) for file in files]),
            "heads": np.stack([motion.x, motion.y, motion.scale], axis=1),
        }

    def _speak(self, subject: int, fake: bool) -> dict[str, np.ndarray]:
        utterance, rng = self._utterance(subject)
        audio = speech.record(utterance.audio, rng)
        own = np.random.default_rng([self.seed, BANK, subject, int(fake)])
        if fake:
            audio = fakes.resynthesise(audio, own)
        # The microphone's noise comes last, so that its absence does not tell a resynthesis.
        audio = audio / speech.rms(audio) + speech.coloured_noise(len(audio), own) * 10 ** (-38 / 20)
        audio *= 10 ** (LOUDNESS_DB / 20) / speech.rms(audio)
        return {"sound": np.tanh(audio).astype(np.float32)}


def _moved(number: int) -> tuple[int, int]:
    """Place of a piece in the play of the picture; repeats after 1,089 pieces."""
    return divmod(number * 617 % (PLAY + 1) ** 2, PLAY + 1)


def _place(number: int, room: int) -> tuple[int, tuple[int, int, int, int]]:
    """First frame of a piece, with `room` frames to spare, and its part of the picture."""
    left, top = _moved(number)
    return number * 29 % (room + 1), (left, top, left + SIDE, top + SIDE)


def _inside(time: float, periods: Periods | None) -> bool:
    return periods is None or any(begin <= time < end for begin, end in periods)


def _made(path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_sound(path: Path, audio: np.ndarray, rate: int) -> None:
    suffix = path.suffix.lower()
    if suffix in (".wav", ".flac"):
        import soundfile

        soundfile.write(path, audio, rate, subtype="PCM_16")
        return
    codecs = {".mp3": "libmp3lame", ".m4a": "aac"}
    if suffix not in codecs:
        raise ConfigError(f"A miniature recording is .wav, .flac, .mp3 or .m4a, not {path.name}.")
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codecs[suffix], rate=rate, layout="mono")
        stream.bit_rate = 64_000
        block = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
