"""All plots of a measured score table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avdetect.evaluation.calibration import Thresholds
from avdetect.evaluation.plots.comparisons import plot_groups
from avdetect.evaluation.plots.curves import plot_coverage_risk, plot_det, plot_precision_recall, plot_roc
from avdetect.evaluation.plots.scores import (
    plot_calibration,
    plot_confusion,
    plot_recalibration,
    plot_score_histogram,
)
from avdetect.evaluation.plots.style import Curve
from avdetect.evaluation.protocols import SCORES, calibration_stages
from avdetect.evaluation.selective import risk_coverage


def measured_curves(table: pd.DataFrame, result: Mapping[str, Any]) -> dict[str, Curve]:
    """The scores of `table` that `evaluate_scores` could measure, by their name in the result."""
    curves = {}
    for column, name in SCORES.items():
        report = result["clips"].get(name, {}).get("overall")
        if report is not None and report["reason"] is None:
            rows = table[table["label"].notna() & table[column].notna()]
            curves[name] = Curve(rows["label"].astype(int).to_numpy(), rows[column].to_numpy(float), report)
    return curves


def plot_evaluation(
    table: pd.DataFrame, result: Mapping[str, Any], out_dir: str | Path, thresholds: Thresholds | None = None
) -> list[Path]:
    """All plots of an `evaluate_scores` result and the table it was made from; returns the files written.

    Scores that could not be measured (their "overall" has a reason) are left out. Columns `NAME_logit` beside
    the scores give the picture of the calibration before and after. Scores that are no probabilities (a result
    with "calibrated" false) have no calibration, histogram or confusion matrix.
    """
    out_dir, curves = Path(out_dir), measured_curves(table, result)
    if not curves:
        return []
    paths = [
        plot_roc(curves, out_dir / "roc.png"),
        plot_precision_recall(curves, out_dir / "precision_recall.png"),
        plot_det(curves, out_dir / "det.png"),
    ]
    if result["calibrated"]:
        paths += _plots_of_probabilities(table, curves, out_dir, thresholds)
    return paths + _plots_of_groups(result, curves, out_dir)


def _plots_of_probabilities(
    table: pd.DataFrame, curves: Mapping[str, Curve], out_dir: Path, thresholds: Thresholds | None
) -> list[Path]:
    paths = [
        plot_calibration(curves, out_dir / "calibration.png"),
        plot_score_histogram(curves, out_dir / "score_histogram.png", thresholds),
    ]
    if stages := _before_and_after(table, curves):
        paths.append(plot_recalibration(stages, out_dir / "recalibration.png"))
    risks = {name: risk_coverage(curve.labels, curve.scores) for name, curve in curves.items()}
    lines = {name: (np.asarray(risk["coverage"]), np.asarray(risk["risk"])) for name, risk in risks.items()}
    band = (thresholds, curves["fused"]) if thresholds is not None and "fused" in curves else None
    paths.append(plot_coverage_risk(lines, out_dir / "coverage_risk.png", band))
    if "fused" in curves:
        y, p, report = curves["fused"]
        paths.append(plot_confusion(y, p, out_dir / "confusion_matrix.png", report["threshold"]))
        if thresholds is not None:
            paths.append(
                plot_confusion(y, p, out_dir / "verdicts.png", thresholds=thresholds, title="Verdicts")
            )
    return paths


def _before_and_after(table: pd.DataFrame, curves: Mapping[str, Curve]) -> dict[str, tuple]:
    stages = {}
    for column, name in SCORES.items():
        if name in curves:
            found = calibration_stages(table[table["label"].notna() & table[column].notna()], column)
            if found is not None:
                label, *values = found
                stages[name if label == "label" else f"{name}, by its own label"] = tuple(values)
    return stages


def _plots_of_groups(result: Mapping[str, Any], curves: Mapping[str, Curve], out_dir: Path) -> list[Path]:
    """Bars per method, and per value of every column that the result has groups of, for the leading score."""
    name = next(iter(curves))
    methods = result["clips"][name]["methods"]
    groups = {column: {value: reports[name] for value, reports in values.items() if name in reports}
              for column, values in result["groups"].items()}  # fmt: skip
    paths = []
    if _any_measured(methods):
        paths.append(plot_groups(methods, out_dir / "methods.png", score=name))
    for column, reports in groups.items():
        if _any_measured(reports):
            path = out_dir / f"group_{re.sub(r'[^A-Za-z0-9_-]+', '_', column)}.png"
            paths.append(plot_groups(reports, path, f"Clips by {column}", score=name))
    return paths


def _any_measured(reports: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(report["reason"] is None for report in reports.values())
