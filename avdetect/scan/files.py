"""Judge files and print what is said of each as soon as it is known."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from avdetect.errors import AvdetectError
from avdetect.inference import Detector
from avdetect.inference.verdict import Verdict, render


def predict_files(
    files: list[Path],
    bundle: Path | None,
    as_json: bool,
    report: Path | None,
    complain: Callable[[str], None],
) -> int:
    """Print a verdict per file on stdout; returns how many files failed, each with one sentence.

    report: one HTML page of all verdicts, written at the end. Raises WeightsError if there is no detector.
    """
    started = time.perf_counter()
    detector = Detector.load(bundle)
    load_s = time.perf_counter() - started
    out, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    if bundle is None:
        complain(f"using the detector in {detector.bundle.folder}")
    failed = 0
    pages: list[tuple] = []
    with progress.status("") as status:
        for number, path in enumerate(files, start=1):
            status.update(f"{number} of {len(files)}: {path.name}")
            try:
                verdict = _judge(detector, path, pages if report else None)
            except AvdetectError as error:
                failed += 1
                complain(str(error))
                continue
            except Exception as error:  # a defect of ours must not cost the other files their answer
                failed += 1
                complain(
                    f"{path} could not be judged because of an internal error ({type(error).__name__}: {error})"
                )
                continue
            verdict.timing_s = {"load": round(load_s, 3), **verdict.timing_s}
            if as_json:
                print(json.dumps(verdict.to_dict(), allow_nan=False), flush=True)
            else:
                render(verdict, out)
    if report is not None and pages:
        _write(pages, report)
    sys.stdout.flush()
    return failed


def _judge(detector: Detector, path: Path, pages: list[tuple] | None) -> Verdict:
    if pages is None:
        return detector.predict(path)
    from avdetect.report import gather_pictures

    analysis = detector.analyse(path)
    pages.append((analysis.verdict, gather_pictures(analysis, detector.bundle)))
    return analysis.verdict


def _write(pages: list[tuple], report: Path) -> None:
    from avdetect.report import write_report

    try:
        write_report([verdict for verdict, _ in pages], [pictures for _, pictures in pages], report)
    except OSError as error:
        raise AvdetectError(
            f"the report could not be written to {report} ({error.strerror}): name another file"
        ) from error
