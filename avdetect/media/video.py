"""Video through PyAV: what a file holds, and its frames by presentation time, upright.

Times are seconds on the video's clock: time stamp x time base, minus that of the first video frame. They
never come from a frame's index. Display rotation and mirroring are undone; non-square pixels are left as
stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from avdetect.errors import MediaError
from avdetect.media.files import ACCEPTED, MediaInfo, check_file, file_sha256
from avdetect.media.tags import recording_tags

# Formats that are lists of other files, or that take any text for a picture.
_REFUSED_FORMATS = {"tty", "hls", "dash", "concat", "sdp", "rtsp", "image2", "ffmetadata", "bin"}
# 8-bit formats whose first plane is luma and can be used as it lies in the decoder's memory.
_LIMITED_LUMA = {"yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "nv12", "nv21"}
_FULL_LUMA = {"yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "gray"}
# Formats whose header says how long they are; the others' durations are estimates.
_DECLARE_DURATION = {"mov", "matroska", "avi", "wav", "flac"}
_RANGE_JPEG = 2  # AVCOL_RANGE_JPEG: luma 0..255 instead of 16..235
_EXPAND_LUMA = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
_SAME_TIME_S = 1e-3  # rounding of time stamps in containers (Matroska: milliseconds)


class Orientation(NamedTuple):
    """One of the eight ways to put a picture upright: transpose first, then the flips."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Upright view of `image` (H, W, ...)."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        if self.flip_x:
            image = image[:, ::-1]
        return image[::-1] if self.flip_y else image


def frame_orientation(frame: av.VideoFrame) -> Orientation:
    """Orientation from the display matrix of a frame, to the nearest quarter turn.

    The matrix maps x' = a x + c y, y' = b x + d y (ffmpeg's libavutil/display.h: a, b, _, c, d are its first
    five).
    """
    for data in frame.side_data:
        if data.type == SideDataType.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
            if abs(int(a)) >= abs(int(c)):
                return Orientation(False, bool(a < 0), bool(d < 0))
            return Orientation(True, bool(c < 0), bool(b < 0))
    return Orientation()


class VideoFrame:
    """A decoded frame at `time` seconds of the video's clock; pixels are converted only when asked for."""

    def __init__(self, frame: av.VideoFrame, time: float, orientation: Orientation):
        self.time = time
        self.orientation = orientation
        self._frame = frame
        self._luma: np.ndarray | None = None
        size = (frame.height, frame.width)
        self.height, self.width = size[::-1] if orientation.transpose else size

    @property
    def nbytes(self) -> int:
        """Memory held while the frame is kept, estimated from its format."""
        return self.width * self.height * self._frame.format.padded_bits_per_pixel // 8

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8, full resolution, upright."""
        return self.orientation.apply(self._frame.to_ndarray(format="rgb24"))

    def reduced_rgb(self, max_side: int) -> np.ndarray:
        """(h, w, 3) uint8, upright, area-averaged so that the longer side is at most `max_side`."""
        scale = min(1.0, max_side / max(self.width, self.height))
        width, height = (max(1, round(side * scale)) for side in (self._frame.width, self._frame.height))
        small = self._frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        return np.ascontiguousarray(self.orientation.apply(small.to_ndarray()))

    def luma(self) -> np.ndarray:
        """(height, width) uint8 luma, upright, a view into the decoder's memory where the format allows.

        Its range is the file's: pass what is cut from it through `full_range`.
        """
        if self._luma is None:
            frame = self._frame
            if frame.format.name not in _LIMITED_LUMA | _FULL_LUMA or frame.planes[0].line_size <= 0:
                frame = self._frame.reformat(format="gray")
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            self._luma = self.orientation.apply(rows[: frame.height, : frame.width])
        return self._luma

    def full_range(self, luma: np.ndarray) -> np.ndarray:
        """Luma values of this frame stretched to 0..255 where the file stores 16..235 (ITU-R BT.601)."""
        full = self._frame.format.name not in _LIMITED_LUMA or int(self._frame.color_range) == _RANGE_JPEG
        return luma if full else _EXPAND_LUMA[luma]


class MediaReader:
    """One pass over the interleaved streams of a file: iterate for `VideoFrame` and `av.AudioFrame`.

    Use as a context manager. `video`, `audio`: PyAV streams or None (cover pictures are no video). What could
    not be decoded is counted and, after the pass, described in `warnings`.

    `threads`: "AUTO" decodes frames in parallel (1080p H.264 on 2 cores: 270 against 170 frames a second with
    "SLICE"), for passes that run to the end; "SLICE" for early stops, where frame threads have hung
    (PyAV#1861). Raises MediaError where the file is no media.
    """

    def __init__(
        self, path: str | Path, threads: str = "AUTO", want_audio: bool = True, want_video: bool = True
    ):
        self.path = check_file(path)
        self.warnings: list[str] = []
        self.video_start_s: float | None = None
        self.video_end_s = 0.0  # end of the last frame, on the video's clock
        self.audio_start_s: float | None = None
        self.orientation = Orientation()
        self.first_frame: av.VideoFrame | None = None
        self._damaged = {"video": 0, "audio": 0}
        self._last_time: float | None = None
        self._out_of_order = 0
        self._audio_end_s = 0.0
        self.container = _open_container(self.path)
        self.video = self.container.streams.best("video")
        if self.video is not None and (
            self.video.disposition & av.stream.Disposition.attached_pic or self.video.codec_context is None
        ):
            self.video = None
        self.audio = self.container.streams.best("audio")
        if self.audio is not None and self.audio.codec_context is None:
            self.audio = None
        if self.video is None and self.audio is None:
            self.container.close()
            raise MediaError(
                f"{path} holds neither a picture nor sound that can be decoded: give a {ACCEPTED} file."
            )
        self._wanted = [
            stream
            for stream, wanted in ((self.video, want_video), (self.audio, want_audio))
            if stream is not None and wanted
        ]
        if self.video is not None:
            self.video.thread_type = threads

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *error) -> None:
        self.container.close()

    @property
    def frame_step_s(self) -> float:
        """Nominal time from one frame to the next."""
        rate = self.video.average_rate or self.video.guessed_rate if self.video is not None else None
        return 1.0 / float(rate) if rate else 0.04

    def __iter__(self) -> Iterator[VideoFrame | av.AudioFrame]:
        flushed = not self._wanted
        packets = self.container.demux(self._wanted) if self._wanted else iter(())
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.warnings.append(f"reading stopped at a damaged place of the file ({_cause(error)})")
                break
            if packet is None:
                flushed = True
                break
            yield from self._decode(packet.stream, packet)
        if not flushed:
            for stream in self._wanted:
                yield from self._decode(stream, None)
        self._summarise()

    def _decode(
        self, stream: av.stream.Stream, packet: av.Packet | None
    ) -> Iterator[VideoFrame | av.AudioFrame]:
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            self._damaged[stream.type] += 1
            return
        for frame in frames:
            if stream.type == "video":
                yield self._timed(frame)
            else:
                if frame.pts is not None:
                    start = float(frame.pts * frame.time_base)
                    self.audio_start_s = start if self.audio_start_s is None else self.audio_start_s
                    self._audio_end_s = start + frame.samples / frame.sample_rate
                yield frame

    def _timed(self, frame: av.VideoFrame) -> VideoFrame:
        """Wrap a frame with its time; a missing or backward stamp becomes the last time + nominal step."""
        if self.first_frame is None:
            self.first_frame = frame
            self.orientation = frame_orientation(frame)
            self.video_start_s = float(frame.pts * frame.time_base) if frame.pts is not None else 0.0
        self._damaged["video"] += bool(frame.is_corrupt)
        last = self._last_time
        time = None if frame.pts is None else float(frame.pts * frame.time_base) - self.video_start_s
        if last is not None and (time is None or time <= last):
            self._out_of_order += 1
            time = last + self.frame_step_s
        self._last_time = time = time or 0.0
        step = (
            float(frame.duration * frame.time_base)
            if frame.duration and frame.time_base
            else self.frame_step_s
        )
        self.video_end_s = time + step
        return VideoFrame(frame, time, self.orientation)

    def _summarise(self) -> None:
        for kind, count in self._damaged.items():
            if count:
                self.warnings.append(f"{count} {kind} packets or frames are damaged")
        if self._out_of_order:
            self.warnings.append(
                f"{self._out_of_order} video frames have no usable time stamp; the nominal "
                "frame rate was used for them"
            )
        if missing := self.missing_end():
            self.warnings.append(missing)

    def missing_end(self) -> str:
        """A sentence where what was decoded so far ends before the announced duration, else nothing."""
        announced = self.container.duration or 0
        if self.container.format.name.split(",")[0] not in _DECLARE_DURATION:
            announced = 0
        announced_s, reached_s = announced / av.time_base, (self.video_start_s or 0.0) + self.video_end_s
        reached_s = max(reached_s, self._audio_end_s)
        if reached_s >= 0.95 * announced_s - 0.2:
            return ""
        return (
            f"only {reached_s:.2f} s of the announced {announced_s:.2f} s could be decoded: the file "
            "seems truncated"
        )

    def info(self) -> MediaInfo:
        """Description of the file; decodes the first frame if none was decoded yet."""
        frame, video, audio = self.first_frame, self.video, self.audio
        width, height = (
            (frame.width, frame.height)
            if frame
            else (getattr(video, "width", None), getattr(video, "height", None))
        )
        if self.orientation.transpose:
            width, height = height, width
        start = self.audio_start_s
        if start is None and audio is not None and audio.start_time is not None:
            start = float(audio.start_time * audio.time_base)
        duration = self.container.duration
        return MediaInfo(
            container=self.container.format.name,
            size_bytes=self.path.stat().st_size,
            sha256=file_sha256(self.path),
            has_video=video is not None,
            has_audio=audio is not None,
            duration_s=duration / av.time_base if duration is not None else None,
            video_codec=video.codec_context.name if video is not None else None,
            fps=float(video.average_rate) if video is not None and video.average_rate else None,
            width=width,
            height=height,
            rotation=frame.rotation % 360 if frame is not None else None,
            pix_fmt=frame.format.name if frame is not None else None,
            video_start_s=self.video_start_s,
            audio_codec=audio.codec_context.name if audio is not None else None,
            sample_rate=audio.codec_context.sample_rate if audio is not None else None,
            channels=audio.codec_context.channels if audio is not None else None,
            audio_start_s=start,
            tags=recording_tags(self.container, {"video": video, "audio": audio}),
        )


def _cause(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".")


def _open_container(path: Path) -> av.container.InputContainer:
    try:
        # A file must not make the decoder open other places; time stamps matter, unreadable titles do not.
        container = av.open(
            str(path.absolute()), metadata_errors="ignore", options={"protocol_whitelist": "file"}
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path} cannot be read as media ({_cause(error)}): it is damaged, incomplete or of another "
            f"kind; give a {ACCEPTED} file."
        ) from error
    if container.format.name in _REFUSED_FORMATS:
        name = container.format.name
        container.close()
        raise MediaError(f"{path} is of the kind '{name}', which is no recording: give a {ACCEPTED} file.")
    return container


def probe(path: str | Path) -> MediaInfo:
    """What the file at `path`, or the folder of frames (`avdetect.media.frames`), holds. Raises MediaError."""
    from avdetect.media.frames import is_sequence, open_sequence
    from avdetect.media.images import read_image

    if is_sequence(path):
        return open_sequence(path).info()
    image = read_image(path)
    if image is not None:
        return image.info
    with MediaReader(path, threads="SLICE", want_audio=False) as reader:
        if reader.video is not None:
            next((item for item in reader), None)
        return reader.info()


def iterate_frames(path: str | Path) -> Iterator[VideoFrame]:
    """Every frame of a video in presentation order, streaming. Raises MediaError."""
    with MediaReader(path, threads="SLICE", want_audio=False) as reader:
        yield from _video_frames(reader)


def count_frames(path: str | Path) -> int:
    """Frames that a video presents, counted without decoding it. Raises MediaError.

    Packets that an edit list hides are not counted; a damaged file may present fewer.
    """
    with MediaReader(path, threads="SLICE", want_audio=False) as reader:
        if reader.video is None:
            raise MediaError(f"{path} has no video track: give a video file.")
        return sum(
            packet.size > 0 and not packet.is_discard for packet in reader.container.demux(reader.video)
        )


def frames_at(path: str | Path, times: Iterable[float]) -> list[tuple[float, np.ndarray]]:
    """The frames on display at `times` (seconds of the video's clock), each as (its time, (H, W, 3) uint8
    RGB).

    A frame is displayed from its time stamp until the next one's; times before the first frame give the
    first, times behind the last give the last. The answer is in the order of `times`. Raises MediaError.
    """
    wanted = list(times)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    found: dict[int, tuple[float, np.ndarray]] = {}
    last: VideoFrame | None = None
    with MediaReader(path, threads="SLICE", want_audio=False) as reader:
        for frame in _video_frames(reader):
            due = []
            while last is not None and order and wanted[order[0]] < frame.time - _SAME_TIME_S:
                due.append(order.pop(0))
            if due:
                found.update(dict.fromkeys(due, (last.time, last.rgb())))
            last = frame
            if not order:
                break
        if order and last is not None:
            found.update(dict.fromkeys(order, (last.time, last.rgb())))
    return [found[index] for index in range(len(wanted))]


def _video_frames(reader: MediaReader) -> Iterator[VideoFrame]:
    if reader.video is None:
        raise MediaError(f"{reader.path} has no video track: give a video file.")
    yield from reader
    if reader.first_frame is None:
        raise MediaError(
            f"{reader.path} announces video but no frame could be decoded: the file is damaged; "
            "copy or download it again."
        )
