"""Judge files and print what is said of each as soon as it is known."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from avdetect.errors import AvdetectError, WeightsError
from avdetect.inference import Analysis, Bundle, Detector, choose_bundle, clip_settings_of, load_bundle
from avdetect.inference.verdict import Verdict, render
from avdetect.media import ClipSettings, FaceDetector, read_clip
from avdetect.media.faces import default_detector


def predict_files(
    files: list[Path],
    bundle: str | Path | None,
    as_json: bool,
    report: Path | None,
    complain: Callable[[str], None],
) -> int:
    """Print a verdict per file on stdout; returns how many files failed, each with one sentence.

    bundle: as `find_bundle` takes it; report: one HTML page of all verdicts, written at the end. Raises
    WeightsError if there is no detector.
    """
    folder = choose_bundle(bundle, complain)
    settings = clip_settings_of(folder)
    failed = 0
    pages: list[tuple] = []
    progress = Console(stderr=True, highlight=False)
    faces = default_detector()
    with ThreadPoolExecutor(1) as background, progress.status("") as status:
        # Importing and loading the networks takes as long as reading a clip: both at once. Only now, as the face
        # detector imports torchvision too, and two threads must not import one package at the same time.
        loading = background.submit(load_bundle, folder)
        for number, path in enumerate(files, start=1):
            status.update(f"{number} of {len(files)}: {path.name}")
            try:
                detector, analysis = _judge(loading, settings, faces, path)
                _show(analysis.verdict, as_json)  # before the pictures: they must not cost it
                if report is not None:
                    pages.append((analysis.verdict, _pictures(detector, analysis)))
            except WeightsError:
                raise
            except AvdetectError as error:
                failed += 1
                complain(str(error))
            except Exception as error:  # a defect of ours must not cost the other files their answer
                failed += 1
                what = f"{type(error).__name__}: {error}"
                complain(f"{path} could not be judged because of an internal error ({what})")
            if not gc.isenabled():  # the command line puts it off until all is imported
                gc.freeze()
                gc.enable()
        loading.result()
    if pages:
        _write(pages, report)
    return failed


def _judge(
    loading: Future[Bundle], settings: ClipSettings, faces: FaceDetector, path: Path
) -> tuple[Detector, Analysis]:
    clip = read_clip(path, settings, faces)
    started = time.perf_counter()
    detector = Detector(loading.result())
    clip.timing_s = {"load": time.perf_counter() - started, **clip.timing_s}
    return detector, detector.judge(clip)


def _pictures(detector: Detector, analysis: Analysis):
    from avdetect.report import gather_pictures  # matplotlib: only who wants a page pays for it

    return gather_pictures(analysis, detector.bundle)


def _show(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(verdict.to_dict(), allow_nan=False), flush=True)
    else:
        render(verdict, Console(highlight=False))


def _write(pages: list[tuple], report: Path) -> None:
    from avdetect.report import write_report

    try:
        write_report([verdict for verdict, _ in pages], [pictures for _, pictures in pages], report)
    except OSError as error:
        raise AvdetectError(
            f"the report could not be written to {report} ({error.strerror}): name another file"
        ) from error
