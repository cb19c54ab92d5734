"""What can be told of a recording without looking at it, and whether it can be read at all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from avdetect.errors import MediaError
from avdetect.media.audio import AudioCollector
from avdetect.media.files import check_file
from avdetect.media.frames import is_sequence, open_sequence
from avdetect.media.images import PICTURE_FORMATS, read_image
from avdetect.media.loudness import loudness_db, sounding_span
from avdetect.media.video import MediaReader, VideoFrame

HEARD_S = 60.0  # loudness is measured over this much from the start
RATE = 16000  # Hz, of the sound that loudness and silence are measured on
TAIL_S = 1.0  # read from the end of a video for a trial
MOST_FRAMES = 600  # decoded in a trial of one end


@dataclass(frozen=True)
class FileFacts:
    """Properties of a file that have nothing to do with what it shows; absent ones are None."""

    size_bytes: int
    container: str
    duration_s: float | None = None
    bitrate: float | None = None  # bits per second, of the whole file
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    loudness_db: float | None = None  # RMS, relative to full scale, of the first minute
    leading_silence_s: float | None = None

    def to_dict(self) -> dict:
        return asdict(self)


def file_facts(path: str | Path) -> FileFacts:
    """Facts of a file or a folder of frames. Reads the headers and a minute of sound. Raises MediaError."""
    if is_sequence(path):
        info = open_sequence(path).info()
        rate = 8 * info.size_bytes / info.duration_s if info.duration_s else None
        return FileFacts(info.size_bytes, info.container, info.duration_s, rate, info.width, info.height,
                         video_codec=info.video_codec)  # fmt: skip
    file = check_file(path)
    size = file.stat().st_size
    try:
        with Image.open(file, formats=PICTURE_FORMATS) as image:
            kind = str(image.format).lower()
            return FileFacts(size, kind, width=image.width, height=image.height, video_codec=kind)
    except UnidentifiedImageError:
        return _recording_facts(file, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} cannot be read as a picture ({error}): download it again.") from error


def _recording_facts(file: Path, size: int) -> FileFacts:
    with MediaReader(file, want_video=False) as reader:
        video, audio = reader.video, reader.audio
        duration = reader.container.duration
        seconds = duration / av.time_base if duration else None
        loudness, silence = (None, None) if audio is None else _heard(reader)
        return FileFacts(
            size_bytes=size,
            container=reader.container.format.name,
            duration_s=seconds,
            bitrate=8 * size / seconds if seconds else None,
            width=video.codec_context.width if video is not None else None,
            height=video.codec_context.height if video is not None else None,
            fps=float(video.average_rate) if video is not None and video.average_rate else None,
            video_codec=video.codec_context.name if video is not None else None,
            audio_codec=audio.codec_context.name if audio is not None else None,
            sample_rate=audio.codec_context.sample_rate if audio is not None else None,
            channels=audio.codec_context.channels if audio is not None else None,
            loudness_db=loudness,
            leading_silence_s=silence,
        )


def _heard(reader: MediaReader) -> tuple[float | None, float | None]:
    """Loudness in dB and leading silence in seconds of the first minute of sound."""
    collector, heard_s = AudioCollector(RATE), 0.0
    for frame in reader:
        collector.add(frame)
        heard_s += frame.samples / frame.sample_rate
        if heard_s >= HEARD_S:
            break
    samples = collector.finish()
    if samples is None:
        return None, None
    samples = samples[: int(HEARD_S * RATE)]
    span = sounding_span(samples, RATE)
    return loudness_db(samples), len(samples) / RATE if span is None else span[0] / RATE


def trial_read(path: str | Path, kind: str | None = None) -> list[str]:
    """Really open a file and decode its two ends; sentences about what is missing but does not stop a reader.

    Of a video the first frame and the last second are decoded (at most 600 frames of either end), of sound
    alone everything, of a folder of frames the first and the last. `kind`: `video`, `audio` or `image`, what
    the file should be. Raises MediaError where it cannot be read, or is not of its kind.
    """
    if is_sequence(path):
        sequence = open_sequence(path)
        for index in (0, len(sequence) - 1):
            if sequence.rgb(index) is None:
                raise MediaError(f"{path}: {sequence.names[index]} is a damaged picture: download it again.")
        return []
    still = read_image(path)
    if still is not None:
        if kind not in (None, "image"):
            raise MediaError(f"{path} is listed as {kind} and is a picture: correct the manifest.")
        return list(still.warnings)
    with MediaReader(path, threads="SLICE") as reader:
        if kind == "image":
            raise MediaError(f"{path} is listed as image and is a recording: correct the manifest.")
        if reader.video is None and kind == "video":
            raise MediaError(f"{path} is listed as video and holds sound only: correct the manifest.")
        if reader.audio is None and kind == "audio":
            raise MediaError(f"{path} is listed as audio and holds no sound: correct the manifest.")
        sound_only = reader.video is None or kind == "audio"
        if not sound_only and not any(isinstance(item, VideoFrame) for item in _some(reader)):
            raise MediaError(f"{path}: its first frames cannot be decoded: download it again.")
    return _trial_of_sound(path) if sound_only else _trial_of_the_end(path)


def _some(reader: MediaReader) -> Iterator[VideoFrame | av.AudioFrame]:
    return itertools.islice(reader, MOST_FRAMES)


def _trial_of_sound(path: str | Path) -> list[str]:
    with MediaReader(path, want_video=False) as reader:
        if not sum(1 for _ in reader):
            raise MediaError(f"{path} announces sound but none could be decoded: download it again.")
        return reader.warnings


def _trial_of_the_end(path: str | Path) -> list[str]:
    with MediaReader(path, threads="SLICE") as reader:
        if not reader.container.duration:
            return []  # a stream without an index: its end cannot be found without reading all of it
        end = (reader.container.start_time or 0) + reader.container.duration
        try:
            reader.container.seek(max(0, end - int(TAIL_S * av.time_base)), backward=True)
        except av.FFmpegError as error:
            raise MediaError(f"{path}: its end cannot be reached ({error.strerror}); is it whole?") from error
        read = [isinstance(item, VideoFrame) for item in _some(reader)]
        if not any(read):
            raise MediaError(
                f"{path}: its last frames cannot be decoded; it is incomplete: download it again."
            )
        # Damage is not told here: a decoder that starts in the middle of a stream reports some that is none.
        missing = reader.missing_end() if len(read) < MOST_FRAMES else ""
        return [missing] if missing else []


def make_fact_reader() -> Callable[[tuple[str, str]], dict]:
    """The work of one process of `run_in_workers`: (key, path) -> facts, or {"reason": why there are none}."""

    def work(task: tuple[str, str]) -> dict:
        try:
            return file_facts(task[1]).to_dict()
        except MediaError as error:
            return {"reason": str(error)}

    return work
