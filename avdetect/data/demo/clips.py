"""One clip of the demo set: what is in it, how it is rendered, and how it is written as a file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import resample_poly
from threadpoolctl import threadpool_limits

from avdetect.data.demo import fakes, scene, speech
from avdetect.data.demo.faces import paint_head, random_face, random_light
from avdetect.data.demo.features import Painter

FRAME_RATES = (Fraction(25),) * 8 + (Fraction(30), Fraction(30000, 1001))
SAMPLE_RATES = (32000, 44100, 48000)
MARGIN_S = 1.0  # sound made before and after the picture, so that it can be shifted without a seam
AUDIO_BITRATE = 96_000

# Streams of random numbers: [seed, stream, index]. A fake draws from the streams of its genuine clip for all
# but the manipulation and the noise, so duration, size, loudness and coding are alike by construction.
SUBJECT, SCENE, FAKE = 1, 2, 3


@dataclass(frozen=True)
class ClipPlan:
    """A clip to make: `scene` numbers its genuine clip, `index` itself; `donor` is set for face swaps."""

    part: int
    name: str
    original: str | None
    method: str
    subject: int
    donor: int | None
    scene: int
    index: int


@dataclass(frozen=True)
class Recording:
    """What a genuine clip and its fakes share."""

    frames: int
    fps: Fraction
    sample_rate: int
    loudness_db: float
    crf: int

    @property
    def seconds(self) -> float:
        return float(self.frames / self.fps)


def random_recording(seconds: tuple[float, float], rng: np.random.Generator) -> Recording:
    """Draw duration, rates, loudness (dB relative to full scale, RMS) and coding quality."""
    fps = FRAME_RATES[rng.integers(len(FRAME_RATES))]
    return Recording(
        frames=int(round(rng.uniform(*seconds) * float(fps))),
        fps=fps,
        sample_rate=int(rng.choice(SAMPLE_RATES)),
        loudness_db=rng.uniform(-30, -20),
        crf=int(rng.integers(17, 23)),
    )


def make_clip(plan: ClipPlan, path: Path, seed: int, seconds: tuple[float, float]) -> None:
    """Render a clip; the file appears at `path` only when it is whole. Same arguments give the same bytes."""
    # The last digits of a matrix product depend on how many threads worked on it, and Griffin-Lim amplifies them.
    with threadpool_limits(1):
        _make_clip(plan, path, seed, seconds)


def _make_clip(plan: ClipPlan, path: Path, seed: int, seconds: tuple[float, float]) -> None:
    rng = np.random.default_rng([seed, SCENE, plan.scene])
    own = np.random.default_rng([seed, FAKE, plan.index])
    recording = random_recording(seconds, rng)
    voice = speech.random_voice(_subject(seed, plan.subject)[1])
    utterance = speech.speak(voice, recording.seconds + 2 * MARGIN_S, rng)
    room = int(rng.integers(2**31))
    audio = _sound(plan, recording, voice, utterance, room, own)
    # The sound must be drawn before the picture: frames() draws from the generators while it is consumed.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_mp4(temporary, _picture(plan, recording, utterance, seed, rng, own), audio, recording)
    os.replace(temporary, path)


def _subject(seed: int, subject: int) -> tuple[np.random.Generator, np.random.Generator]:
    face, voice = np.random.default_rng([seed, SUBJECT, subject]).spawn(2)
    return face, voice


def _sound(
    plan: ClipPlan,
    recording: Recording,
    voice: speech.Voice,
    utterance: speech.Utterance,
    room: int,
    own: np.random.Generator,
) -> np.ndarray:
    """(T,) float at speech.RATE, as long as the picture: spoken, recorded, perhaps manipulated, levelled."""
    dry, begin = utterance.audio, MARGIN_S
    if plan.method == fakes.OUT_OF_SYNC:
        if own.random() < 0.3:
            dry = speech.speak(voice, len(dry) / speech.RATE, own).audio
        else:
            begin -= fakes.out_of_sync_shift(own)  # sound from before is heard late
    audio = speech.record(dry, np.random.default_rng(room))
    if plan.method == fakes.VOICE_RESYNTHESIS:
        audio = fakes.resynthesise(audio, own)
    first = int(round(begin * speech.RATE))
    audio = audio[first : first + int(round(recording.seconds * speech.RATE))]
    audio = audio / speech.rms(audio) + speech.coloured_noise(len(audio), own) * 10 ** (
        -own.uniform(34, 42) / 20
    )
    audio = audio / speech.rms(audio) * 10 ** (recording.loudness_db / 20)
    return np.tanh(audio)  # a soft limit; the level is far below it


def _picture(
    plan: ClipPlan,
    recording: Recording,
    utterance: speech.Utterance,
    seed: int,
    rng: np.random.Generator,
    own: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 of the talking head."""
    camera, light = scene.random_camera(rng), random_light(rng)
    motion = scene.random_motion(camera, recording.frames, float(recording.fps), rng)
    face = random_face(_subject(seed, plan.subject)[0])
    painter = Painter(face, paint_head(face, light), light)
    backdrop = scene.paint_backdrop(face, light, camera, motion, rng)
    times = MARGIN_S + np.arange(recording.frames) / float(recording.fps)
    grid = np.arange(len(utterance.opening)) / speech.CONTROL_RATE
    opening, rounding = np.interp(times, grid, utterance.opening), np.interp(times, grid, utterance.rounding)
    swap = None
    if plan.donor is not None:
        other = random_face(_subject(seed, plan.donor)[0])
        swap = fakes.FaceSwap(face, Painter(other, paint_head(other, light), light), recording.frames, own)
    grain = scene.Grain(camera, own)
    for frame in range(recording.frames):
        state = (opening[frame], rounding[frame], motion.lid[frame], motion.gaze[frame])
        texture = painter.paint(*state)
        if swap is not None:
            texture = swap.apply(texture, frame, *state)
        yield grain(scene.place_head(backdrop, texture, motion, frame, opening[frame]))


def write_mp4(
    path: Path, frames: Iterator[np.ndarray], audio: np.ndarray | None, recording: Recording
) -> None:
    """Write H.264 and mono AAC; audio (T,) at speech.RATE begins with the first frame, None: no sound.

    The video is coded by one thread, so that the bytes repeat.
    """
    rate = recording.sample_rate
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=recording.fps)
        video.pix_fmt = "yuv420p"
        # cpu-independent: without it, x264's bytes differ from run to run.
        video.options = {
            "crf": str(recording.crf),
            "preset": "veryfast",
            "x264-params": "cpu-independent=1",
        }
        video.codec_context.thread_count = 1
        voice = None
        if audio is not None:
            voice = container.add_stream("aac", rate=rate, layout="mono")
            voice.bit_rate = AUDIO_BITRATE
        for number, pixels in enumerate(frames):
            if number == 0:
                video.height, video.width = pixels.shape[:2]
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = number, 1 / recording.fps
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if voice is None or audio is None:
            return
        sound = resample_poly(audio, rate // 100, speech.RATE // 100).astype(np.float32)
        block = av.AudioFrame.from_ndarray(sound[None, :], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        container.mux(voice.encode(block))
        container.mux(voice.encode(None))
