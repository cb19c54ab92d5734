"""Metrics, calibration, protocols and plots. Label 1 and high scores mean fake.

Names are loaded when asked for: prediction needs `Calibration`, but neither scikit-learn nor matplotlib.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "calibration": (
        "Calibration", "Thresholds", "band_report", "choose_thresholds", "fit_calibration", "fit_platt",
        "fit_temperature",
    ),
    "compare": ("delong", "paired_bootstrap"),
    "fairness": ("aiface_fairness", "group_report"),
    "localisation": ("localisation_report", "segments_from_scores"),
    "metrics": ("aggregate_mean_logit", "binary_report"),
    "plots": ("plot_evaluation", "plot_learning_curves"),
    "protocols": ("evaluate_scores", "measure_scores", "summary_table"),
    "seeds": ("summarise_seeds",),
    "tandem": ("min_tdcf_2019", "min_tdcf_2021"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
