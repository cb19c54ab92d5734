"""Sample clips to try: three of the demo set, drawn in a process of their own while the server is up already."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_SEED, _CLIPS, _SECONDS = 0, 12, (4.0, 4.0)
_POSTER_S, _POSTER_PX = 1.0, 240


@dataclass(frozen=True)
class Sample:
    name: str  # file stem, also in URLs
    method: str  # as `ClipPlan.method`
    title: str
    told: str


SAMPLES = (
    Sample("genuine", "", "Nothing changed", "a drawn person, as the program drew it"),
    Sample("face_swap", "face_swap", "Face swapped", "the same clip with another drawn face put in"),
    Sample("late_sound", "out_of_sync", "Voice out of step", "the same clip with sound from another moment"),
)


def make_samples(folder: Path) -> None:
    """Draw what is missing: NAME.mp4 and NAME.jpg, each whole as soon as it has its name."""
    from PIL import Image

    from avdetect.data.demo.clips import make_clip
    from avdetect.data.demo.dataset import plan_clips
    from avdetect.media import frames_at

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    plans = plan_clips(_CLIPS, _SEED)
    scene = next(plan.scene for plan in plans if plan.method == SAMPLES[1].method)
    for sample in SAMPLES:
        clip, poster = folder / f"{sample.name}.mp4", folder / f"{sample.name}.jpg"
        if not clip.exists():
            alike = [plan for plan in plans if plan.method == sample.method]
            plan = next((plan for plan in alike if plan.scene == scene), alike[0])
            make_clip(plan, clip, _SEED, _SECONDS)
        if not poster.exists():
            ((_, frame),) = frames_at(clip, [_POSTER_S])
            picture = Image.fromarray(frame)
            picture.thumbnail((_POSTER_PX, _POSTER_PX))
            draft = poster.with_suffix(".tmp")
            picture.save(draft, "JPEG", quality=85)
            os.replace(draft, poster)


class Samples:
    """The samples of one data folder."""

    def __init__(self, data: Path):
        self._folder = data / "samples"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Draw them in the background, unless they are there."""
        if len(self.ready()) < len(SAMPLES):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "avdetect.web.samples", str(self._folder)], stdin=subprocess.PIPE
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ready(self) -> list[Sample]:
        return [sample for sample in SAMPLES if self.poster(sample.name).exists()]

    def clip(self, name: str) -> Path:
        return self._folder / f"{name}.mp4"

    def poster(self, name: str) -> Path:
        return self._folder / f"{name}.jpg"


def _end_with_the_server() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    make_samples(Path(sys.argv[1]))
