"""What `avdetect explain` does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from avdetect.errors import AvdetectError, ConfigError
from avdetect.evidence import MODALITIES
from avdetect.explain.checking import Check, check_bundle, table_lines
from avdetect.explain.drawing import draw
from avdetect.explain.explanation import Explanation, explain
from avdetect.explain.methods import methods_for
from avdetect.explain.sounds import speaking_for_fake
from avdetect.inference import Analysis, Detector, choose_bundle, load_bundle
from avdetect.inference.verdict import printable


def _say(message: str) -> None:
    print(f"avdetect: {printable(message)}", file=sys.stderr)


def _known(modality: str | None) -> None:
    if modality is not None and modality not in MODALITIES:
        raise ConfigError(f"there is no modality '{modality}': take one of {', '.join(MODALITIES)}")


def explain_files(
    paths: list[Path],
    bundle: str | None,
    modality: str | None,
    method: str | None,
    out: Path,
    as_json: bool,
) -> bool:
    """Explain files into `out`; whether something failed (the others are still written)."""
    _known(modality)
    detector, failed = Detector.load(choose_bundle(bundle, _say)), False
    for number, path in enumerate(paths):
        try:
            analysis = detector.analyse(path)
            wanted = [m for m in MODALITIES if modality in (None, m)]
            judged = [m for m in wanted if m not in analysis.evidence.reasons or modality is not None]
            if not judged:
                reasons = "; ".join(dict.fromkeys(analysis.evidence.reasons.values()))
                raise ConfigError(f"{path}: nothing in it was judged: {reasons}")
        except AvdetectError as error:
            _say(str(error))
            failed = True
            continue
        place = out if len(paths) == 1 else out / f"{number + 1:03d}-{path.stem}"
        for name in judged:
            try:
                explanation = explain(analysis, detector.bundle, name, method)
            except AvdetectError as error:
                _say(str(error))
                failed = True
                continue
            files = write(explanation, analysis, place)
            _print(summary(explanation, path, files), as_json)
    return failed


def write(explanation: Explanation, analysis: Analysis, folder: Path) -> list[Path]:
    """PNG and numbers (.npz) of an explanation; of a sound also what speaks for fake, as a recording."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{explanation.modality}-{explanation.method}"
    picture, numbers = folder / f"{stem}.png", folder / f"{stem}.npz"
    draw(explanation, picture)
    arrays = {"values": explanation.values, "times_s": explanation.times_s, "logits": explanation.logits}
    if explanation.bands_hz is not None:
        arrays["bands_hz"] = explanation.bands_hz
    np.savez_compressed(numbers, **arrays)
    files = [picture, numbers]
    if explanation.modality == "audio":
        rate = analysis.clip.settings.sample_rate
        heard = speaking_for_fake(np.asarray(analysis.clip.audio), rate, explanation)
        files.append(folder / f"{stem}.wav")
        soundfile.write(files[-1], heard, rate)
    return files


def summary(explanation: Explanation, path: Path, files: list[Path]) -> dict[str, Any]:
    """What the command line tells of an explanation."""
    values = explanation.values
    told = {
        "path": str(path), "modality": explanation.modality, "method": explanation.method,
        "network": explanation.network, "meaning": explanation.meaning, "signed": explanation.signed,
        "logits": [round(float(logit), 4) for logit in explanation.logits], "shape": list(values.shape),
        "files": [str(file) for file in files],
    }  # fmt: skip
    if explanation.modality == "visual":
        tops = [np.unravel_index(int(one.argmax()), one.shape) for one in values]
        told["peaks"] = [
            {"time_s": round(float(t), 3), "x": int(x), "y": int(y)}
            for t, (y, x) in zip(explanation.times_s, tops, strict=True)
        ]
    else:
        seconds = sorted(explanation.by_second(), key=lambda pair: -pair[1])[:3]
        told["most_telling_seconds"] = [start for start, value in seconds if value > 0]
    return told


def _print(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told))
        return
    print(printable(f"{told['path']}: {told['modality']} by {told['method']} ({told['network']})"))
    print(f"  {told['meaning']}")
    if told.get("most_telling_seconds"):
        print(
            "  most for fake: second " + ", ".join(f"{start:.0f}" for start in told["most_telling_seconds"])
        )
    for file in told["files"]:
        print(printable(f"  {file}"))


def list_methods(bundle: str | None, modality: str | None, as_json: bool) -> bool:
    """Which methods hold for a detector's networks."""
    _known(modality)
    encoders = load_bundle(choose_bundle(bundle, _say)).encoders
    for name, encoder in encoders.items():
        if modality in (None, name):
            for method, refused in methods_for(encoder).items():
                if as_json:
                    print(json.dumps({"modality": name, "method": method, "refused": refused}))
                else:
                    print(f"{name:8} {method:21} {'yes' if refused is None else f'no: {refused}'}")
    return False


def check(
    bundle: str | None, paths: list[Path], modality: str | None, method: str | None, as_json: bool
) -> bool:
    """Print the sanity checks of a detector; whether one failed, or nothing could be checked."""
    _known(modality)
    loaded = load_bundle(choose_bundle(bundle, _say))
    rows = []

    def done() -> Iterator[Check]:
        for row in check_bundle(loaded, paths, modality, method):
            rows.append(row)
            yield row

    # each as soon as it is known: all of them take minutes
    for line in (json.dumps(row.to_dict()) for row in done()) if as_json else table_lines(done()):
        print(line, flush=True)
    return any(row.passed is False for row in rows) or not any(row.passed for row in rows)
