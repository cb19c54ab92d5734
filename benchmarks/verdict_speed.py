"""How long a full verdict of a 10 s 1080p clip takes, as a ratio to the detector before the built-in one.

    python benchmarks/verdict_speed.py --bundle builtin --out verdict_speed.json

Before: the demo-size networks that recipes start from (`efficientnet_autoatt_tiny`, `mel_cnn_tiny`, `lipsync`) with
random weights, whose time is that of trained ones. Both read the clip through the same media path, in turn, round by
round, in one process: the ratio holds on a machine that does other work too, the seconds only where it is idle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageFilter

from avdetect.data.demo import speech
from avdetect.data.demo.clips import Recording, write_mp4
from avdetect.data.demo.miniature import Miniature
from avdetect.encoders import create_encoder
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, Detector, find_bundle, load_bundle
from avdetect.media import ClipSettings

SECONDS, WIDTH, HEIGHT, FPS = 10, 1920, 1080, Fraction(25)
DRAWN_S = 3.0  # of the drawn recording, played to and fro
BAND = {"real_below": 0.4, "fake_above": 0.6}


def earlier_detector() -> Bundle:
    """The detector of the demo, with random weights."""
    torch.manual_seed(0)
    names = {"visual": "efficientnet_autoatt_tiny", "audio": "mel_cnn_tiny", "lipsync": "lipsync"}
    encoders = {modality: create_encoder(name).eval() for modality, name in names.items()}
    scores = ("fused", *encoders)
    return Bundle(
        encoders,
        FusionHead(feature_dims(encoders)).eval(),
        ClipSettings(crop_size=encoders["visual"].preprocess.size),
        {name: Calibration("identity") for name in scores},
        {name: dict(BAND) for name in scores},
        {"name": "the detector before"},
    )


def draw_clip(path: Path) -> Path:
    """A talking head in the middle of a 1920x1080 picture, H.264 and AAC, `SECONDS` long."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Miniature().video(Path(folder) / "drawn.mp4", subject=0, seconds=DRAWN_S, sound=False)
        with av.open(str(drawn)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        voice = Miniature().speech(
            Path(folder) / "voice.wav", subject=0, fake=False, seconds=4.0, rate=speech.RATE
        )
        with av.open(str(voice)) as container:
            sound = np.concatenate([part.to_ndarray().ravel() for part in container.decode(audio=0)])
    sound = np.resize(sound.astype(np.float32) / 2**15, SECONDS * speech.RATE)
    write_mp4(path, _pictures(frames), sound, Recording(int(SECONDS * FPS), FPS, 48000, -24.0, 20))
    return path


def _pictures(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The drawn frames to and fro, as high as the picture, on a blurred backdrop of themselves."""
    for frame in itertools.islice(itertools.cycle([*frames, *frames[-2:0:-1]]), int(SECONDS * FPS)):
        image = Image.fromarray(frame)
        backdrop = (
            image.resize((WIDTH // 8, HEIGHT // 8))
            .filter(ImageFilter.GaussianBlur(4))
            .resize((WIDTH, HEIGHT))
        )
        backdrop.paste(image.resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC), ((WIDTH - HEIGHT) // 2, 0))
        yield np.asarray(backdrop)


def measure(before: Detector, after: Detector, clip: Path, rounds: int) -> dict:
    """Seconds of every round of both, medians of their parts, and the ratio of the medians with its interval."""
    detectors = {"before": before, "after": after}
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in detectors}
    for number in range(rounds + 1):
        order = list(detectors.items())[:: 1 if number % 2 else -1]
        for name, detector in order:
            begin = time.perf_counter()
            verdict = detector.predict(clip)
            if number:  # the first one loads libraries
                seconds[name].append(time.perf_counter() - begin)
                parts[name].append(verdict.timing_s)
            if not verdict.faces or verdict.modalities["lipsync"].score is None:
                raise SystemExit(f"no talking face was found in {clip}: give --clip a file that shows one")
    medians = {
        name: {part: float(np.median([one[part] for one in told])) for part in told[0]}
        for name, told in parts.items()
    }
    return {**seconds, "parts": medians, **ratio_of(seconds["after"], seconds["before"])}


def ratio_of(after: list[float], before: list[float], resamples: int = 2000) -> dict:
    """Medians and their ratio; the interval is of the ratio, over rounds drawn in pairs."""
    a, b = np.array(after), np.array(before)
    picks = np.random.default_rng(0).integers(len(a), size=(resamples, len(a)))
    drawn = np.median(a[picks], axis=1) / np.median(b[picks], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = float(np.median(a) / np.median(b))
    return {
        "before_s": float(np.median(b)),
        "after_s": float(np.median(a)),
        "ratio": {"value": value, "low": float(low), "high": float(high)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", default="builtin", help="folder, builtin or latest")
    parser.add_argument("--out", type=Path, help="JSON file for avdetect.recipes.genuine_report speed=FILE")
    parser.add_argument("--clip", type=Path, help="a clip of your own instead of the drawn one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    after = load_bundle(find_bundle(asked.bundle))
    with tempfile.TemporaryDirectory() as folder:
        clip = asked.clip or draw_clip(Path(folder) / "clip.mp4")
        found = measure(Detector(earlier_detector()), Detector(after), clip, asked.rounds)
    found |= {"rounds": asked.rounds, "threads": asked.threads, "bundle": after.card.get("name")}
    text = json.dumps(found, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
