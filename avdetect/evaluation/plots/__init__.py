"""Evaluation plots as PNG files, drawn to be read: axes named, n given, intervals in the legend."""

from avdetect.evaluation.plots.comparisons import plot_groups, plot_matrix
from avdetect.evaluation.plots.curves import plot_coverage_risk, plot_det, plot_precision_recall, plot_roc
from avdetect.evaluation.plots.embeddings import (
    grouped,
    neighbour_map,
    plot_embeddings,
    plot_projections,
    principal_plane,
    project,
)
from avdetect.evaluation.plots.pictures import Sound, plot_learning_curves, plot_spectrograms
from avdetect.evaluation.plots.run import measured_curves, plot_evaluation
from avdetect.evaluation.plots.scores import (
    plot_calibration,
    plot_confusion,
    plot_recalibration,
    plot_score_histogram,
)
from avdetect.evaluation.plots.style import Curve

__all__ = [
    "Curve",
    "Sound",
    "grouped",
    "measured_curves",
    "neighbour_map",
    "plot_calibration",
    "plot_confusion",
    "plot_coverage_risk",
    "plot_det",
    "plot_embeddings",
    "plot_evaluation",
    "plot_groups",
    "plot_learning_curves",
    "plot_matrix",
    "plot_precision_recall",
    "plot_recalibration",
    "plot_projections",
    "plot_roc",
    "plot_score_histogram",
    "plot_spectrograms",
    "principal_plane",
    "project",
]
