"""The evaluation as one self-contained HTML page: no script, no outside request, all text escaped."""

from __future__ import annotations

import base64
import shlex
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from avdetect import __version__, report
from avdetect.report.pagefile import page_environment, replace_text
from avdetect.scan.evaluation_plots import worst

if TYPE_CHECKING:
    from avdetect.scan.evaluate import Measured

COLUMNS = {
    "roc_auc": "ROC AUC", "average_precision": "Average precision", "eer": "EER", "accuracy": "Accuracy",
    "log_loss": "Log loss", "ece": "ECE",
}  # fmt: skip
WRONG = ("fakes missed", "genuine called fake")
#: file name -> what it shows, for those who hear the page
ALTERNATIVE = {
    "matrix": "AUC and equal error rate of every score on every test set",
    "learning_curves": "loss and validation figures over the epochs of training",
    "roc": "ROC curves", "precision_recall": "precision against recall", "det": "detection error trade-off",
    "calibration": "reliability diagrams", "recalibration": "reliability before and after calibration",
    "score_histogram": "histograms of the scores of genuine clips and fakes",
    "coverage_risk": "error against the share of clips decided", "confusion_matrix": "confusion matrix",
    "verdicts": "verdicts per class with the uncertain band", "methods": "figures per kind of fake",
    "spectrograms": "mel-spectrograms of voices judged rightly and wrongly",
}  # fmt: skip


def write_page(
    values: dict[str, Any],
    measured: Sequence[Measured],
    pictures: Mapping[str, Sequence[Path]],
    path: Path,
) -> None:
    """Write the page of an evaluation's `metrics.json` values; an old page is replaced by a complete one only."""
    replace_text(path, render_page(values, measured, pictures))


def render_page(
    values: dict[str, Any], measured: Sequence[Measured], pictures: Mapping[str, Sequence[Path]]
) -> str:
    """The page as text."""
    folders = [Path(__file__).parent / "templates", Path(report.__file__).parent / "templates"]
    environment = page_environment(*folders)
    environment.filters |= {"figure": _figure, "interval": _interval, "percent": _percent}
    return environment.get_template("evaluation.html.j2").render(
        values=values,
        columns=COLUMNS,
        sections=[_section(one, pictures.get(one.set.name, ())) for one in measured],
        general=[_picture(path) for path in pictures.get("", ())],
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        command=_command(values, measured),
    )


def _section(one: Measured, pictures: Sequence[Path]) -> dict[str, Any]:
    wrong = worst(one.table) if one.result["calibrated"] else {}
    return {
        "id": f"set-{one.set.slug}",
        "name": one.set.name,
        "path": str(one.set.path),
        "result": one.result,
        "wrong": {
            kind: [
                (row.key, row.score, "" if row.label == 0 or pd.isna(row.method) else str(row.method))
                for row in wrong[kind].itertuples()
            ]
            for kind in WRONG
            if kind in wrong
        },
        "pictures": [_picture(path) for path in pictures],
    }


def _picture(path: Path) -> tuple[str, str, bool]:
    """data: URI, alternative text, and whether half the page would be too narrow for it."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the PNG's first chunk
    coded = base64.b64encode(data).decode("ascii")
    text = ALTERNATIVE.get(path.stem, path.stem.replace("_", " "))
    return f"data:image/png;base64,{coded}", text, width > 1.7 * height


def _figure(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None or entry["value"] is None else f"{entry['value']:.3f}"


def _interval(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry.get("low") is None:
        return ""
    return f"[{entry['low']:.3f}, {entry['high']:.3f}]"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _command(values: dict[str, Any], measured: Sequence[Measured]) -> str:
    parts = ["avdetect", "evaluate"]
    parts += [values["bundle"]["folder"]] if values["bundle"] else ["--scores", values["scores"]]
    for one in measured:
        parts += ["--data", str(one.set.path)]
    parts += ["--split", values["split"], "--seed", str(values["seed"])]
    if values["by"]:
        parts += ["--by", ",".join(values["by"])]
    if values["exported"]:
        parts += ["--export", values["exported"]["layout"]]
    if values["options"].get("trim_silence"):
        parts.append("--trim-silence")
    if values["options"].get("pictures"):
        parts += ["--pictures", values["options"]["pictures"]]
    return shlex.join(parts)
