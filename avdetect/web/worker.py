"""The process that analyses uploads: `python -m avdetect.web.worker SETTINGS`, one request a line on stdin.

It keeps the networks between files. Whatever a file does to it (memory, time, a crash of a decoder) ends this process
and not the server, which starts another. Messages on stdout, one JSON object a line: {"ready": true}, {"stage": …},
and per request either {"verdict": TEXT, "label": …} or {"reason": …}; {"fatal": …} where it cannot work at all.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from avdetect.errors import AvdetectError, MediaError
from avdetect.media.images import PICTURE_FORMATS
from avdetect.media.video import MediaReader
from avdetect.web.settings import Limits

NAVIGATION = "<!-- avdetect:navigation -->"  # in a kept page; text of a user cannot hold it, as it is escaped


def main() -> None:
    settings = json.loads(sys.argv[1])
    say = _speaker()
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    limits = Limits(**settings["limits"])
    try:
        detector = _load(Path(settings["bundle"]), settings["threads"])
    except AvdetectError as error:
        say(fatal=str(error))
        raise SystemExit(1) from None
    _confine(limits.memory_bytes)
    say(ready=True)
    while True:
        request = json.loads(requests.get())
        say(**_answer(detector, request, limits, lambda stage: say(stage=stage)))


def _speaker() -> Callable[..., None]:
    """Messages go to the pipe that was stdout; what a library prints goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    return say


def _listen(requests: queue.Queue[str]) -> None:
    """Requests into the queue; with the server this process ends too, in the middle of a file."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _load(bundle: Path, threads: int | None):
    import torch

    from avdetect import report  # noqa: F401  imported before the memory is confined
    from avdetect.inference import Detector, load_bundle
    from avdetect.media.faces import default_detector

    if threads is not None:
        torch.set_num_threads(threads)
    return Detector(load_bundle(bundle), default_detector())


def _confine(memory_bytes: int) -> None:
    """Memory beyond what the networks take now, the size of files written, no core dumps, behind the server."""
    Image.MAX_IMAGE_PIXELS = None  # `check_limits` counts pixels, before anything is decoded
    if sys.platform != "linux":  # others have no such limits, or do not keep them
        return
    import resource

    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, now + memory_bytes),
        (resource.RLIMIT_FSIZE, 2 * memory_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    os.nice(5)


def _answer(
    detector: Any, request: dict[str, str], limits: Limits, progress: Callable[[str], None]
) -> dict[str, Any]:
    path, name = Path(request["path"]), request["name"]
    try:
        check_limits(path, limits)
        verdict, page = _analyse(detector, path, name, progress, limits)
    except AvdetectError as error:
        return {"reason": str(error).replace(str(path), name)}
    except MemoryError:
        return {"reason": too_much_memory(limits)}
    except Exception as error:
        # a defect of ours, or a decoder's word for "no memory": the file has its answer, the operator the details
        traceback.print_exc()
        return {"reason": f"the analysis broke off because of an internal error ({type(error).__name__})"}
    Path(request["report"]).write_text(page, encoding="utf-8")
    return {"verdict": json.dumps(verdict.to_dict(), allow_nan=False), "label": verdict.label}


def _analyse(detector: Any, path: Path, name: str, progress: Callable[[str], None], limits: Limits):
    """The verdict and the page, with the user's name for the file in both."""
    from markupsafe import Markup

    from avdetect.media import read_clip
    from avdetect.report import gather_pictures, render_page

    clip = read_clip(path, detector.bundle.clip, detector.faces, progress)
    _check_duration(clip.duration_s, limits)
    analysis = detector.judge(dataclasses.replace(clip, path=name), progress)
    progress("report")
    pictures = gather_pictures(analysis, detector.bundle)
    page = render_page([analysis.verdict], [pictures], top=Markup(NAVIGATION), policy=page_policy())
    return analysis.verdict, page


def page_policy() -> str:
    """That of a report, and the server's own style sheet, which the navigation needs."""
    from avdetect.report import content_security_policy

    return content_security_policy().replace("style-src ", "style-src 'self' ")


def too_much_memory(limits: Limits) -> str:
    return f"the analysis needed more than {limits.memory_bytes / 1e9:.3g} GB of memory: give a shorter or smaller file"


def check_limits(path: Path, limits: Limits) -> None:
    """Refuse by what the file announces, before anything is decoded. Raises MediaError."""
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            return _check_pixels(*image.size, limits)
    except Image.UnidentifiedImageError:
        pass  # no picture; what else it is the next one tells
    except (OSError, ValueError, SyntaxError) as error:
        raise MediaError(f"{path} is a damaged picture ({error}): copy or download it again.") from error
    with MediaReader(path, threads="SLICE") as reader:
        if reader.video is not None:
            context = reader.video.codec_context
            _check_pixels(context.width, context.height, limits)
        announced = reader.container.duration
        _check_duration((announced or 0) / 1e6, limits)


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise MediaError(
            f"the picture is {width} × {height} pixels large; this server takes up to {limits.pixels / 1e6:.3g} "
            "million pixels: give a smaller copy"
        )


def _check_duration(seconds: float, limits: Limits) -> None:
    if seconds > limits.duration_s:
        raise MediaError(
            f"the recording lasts {seconds:.0f} s; this server takes up to {limits.duration_s:.0f} s: cut out the part "
            "that matters"
        )


if __name__ == "__main__":
    main()
