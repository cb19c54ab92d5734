"""From logits to P(fake), and from P(fake) to a verdict; fitted on validation clips only.

P(fake) then refers to the mix of fake and genuine clips in the validation set (`Calibration.fitted` records
it), or to as many of both (`Calibration.at_even_odds`).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from avdetect.errors import ConfigError, DataError

log = logging.getLogger(__name__)

_SLOPE_BOUNDS = (1e-3, 1e3)  # of logits scaled to unit spread
_MIN_CONFIDENCE = 0.6


@dataclass(frozen=True)
class Calibration:
    """P(fake) of a logit, by a curve that never falls.

    "platt", "temperature", "identity": sigmoid(slope * logit + intercept) with slope > 0, so that the order
    of clips never changes. "isotonic": straight lines between `knots` (logit, P), constant outside of them;
    clips may become equal but never change places.
    """

    method: str  # "platt" | "temperature" | "identity" | "isotonic"
    slope: float = 1.0
    intercept: float = 0.0
    fitted: dict[str, Any] = field(default_factory=dict)  # n, n_fake, log_loss_*, ece_*, note, even_odds
    knots: tuple[tuple[float, float], ...] = ()  # isotonic alone

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and self.slope > 0 and np.isfinite(self.intercept)):
            raise ConfigError(
                f"A calibration needs a finite slope above 0 and a finite intercept, found {self.slope} and "
                f"{self.intercept}: fit it again on validation logits."
            )
        if (self.method == "isotonic") != bool(self.knots):
            raise ConfigError(
                f"Knots belong to an isotonic calibration, found {len(self.knots)} with {self.method!r}."
            )
        if self.knots:
            _check_knots(self.knots)

    def __call__(self, logit: ArrayLike) -> Any:
        """P(fake) of one logit (float) or of an array of logits (same shape); NaN stays NaN."""
        x = np.asarray(logit, dtype=np.float64)
        p = np.interp(x, *np.transpose(self.knots)) if self.knots else expit(self.slope * x + self.intercept)
        return float(p) if np.ndim(p) == 0 else p

    def at_even_odds(self) -> Calibration:
        """The same curve for as many fake as genuine clips: the log odds of the mix that it was fitted to taken off.

        After Saerens, Latinne and Decaestecker, Neural Computation 14, 2002. For mixes that say nothing of the world,
        as where several fakes were made of each genuine clip. `fitted` tells of the mix before, and "even_odds".
        """
        fakes, count = self.fitted["n_fake"], self.fitted["n"]
        log_odds = float(np.log(fakes / (count - fakes)))
        knots = tuple((x, float(expit(logit(p) - log_odds))) for x, p in self.knots)
        intercept = self.intercept if self.knots else self.intercept - log_odds
        return replace(self, intercept=intercept, knots=knots, fitted={**self.fitted, "even_odds": True})

    def to_dict(self) -> dict[str, Any]:
        """For JSON; "knots" only where there are any."""
        values = asdict(self)
        values["knots"] = [list(knot) for knot in self.knots]
        return values if self.knots else {name: values[name] for name in values if name != "knots"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Inverse of `to_dict`; raises ConfigError on missing or unknown keys."""
        expected = {"method", "slope", "intercept", "fitted"}
        if set(values) - {"knots"} != expected:
            raise ConfigError(
                f"A calibration has the keys {sorted(expected)}, found {sorted(values)}: see to_dict()."
            )
        knots = tuple(tuple(float(part) for part in knot) for knot in values.get("knots", ()))
        return cls(**{**values, "knots": knots})


def _check_knots(knots: tuple[tuple[float, float], ...]) -> None:
    table = np.array([knot for knot in knots if len(knot) == 2], dtype=np.float64)
    if len(table) == len(knots) >= 2 and np.isfinite(table).all():
        logits, p = table.T
        if (np.diff(logits) > 0).all() and (np.diff(p) >= 0).all() and p[0] >= 0 and p[-1] <= 1:
            return
    raise ConfigError(
        "An isotonic calibration needs two or more knots (logit, P) with rising logits and P in [0, 1] that "
        "never falls: fit it again on validation logits."
    )


def fit_calibration(method: str, labels: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit by name: platt, temperature or isotonic."""
    fits = {"platt": fit_platt, "temperature": fit_temperature, "isotonic": fit_isotonic}
    if method not in fits:
        raise ConfigError(f"Unknown calibration {method!r}: choose one of {', '.join(fits)}.")
    return fits[method](labels, logits)


def fit_platt(labels: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit slope and intercept (Platt 1999) to validation logits (N,), labels (N,) of both classes.

    Regularised by Platt's own targets: fakes aim at (N1 + 1) / (N1 + 2) and genuine clips at 1 / (N0 + 2)
    instead of 1 and 0, as if one clip of each kind had been seen on the wrong side. The log loss then has a
    finite minimum even where validation data are perfectly separated, and few clips cannot give near-certain
    probabilities. Raises DataError for one class only, for logits that are not finite, or that are all equal.
    """
    return _fit(labels, logits, "platt")


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit the slope alone (1 / temperature; Guo et al. 2017), with the same targets and errors as
    `fit_platt`.

    For logits whose zero is already in the right place; with very few clips it is steadier than `fit_platt`.
    """
    return _fit(labels, logits, "temperature")


def fit_isotonic(labels: ArrayLike, logits: ArrayLike) -> Calibration:
    """Fit the never falling curve of least squares (Zadrozny & Elkan 2002), with the errors of `fit_platt`.

    It assumes no shape, so it needs many clips: a few hundred of each class. Platt's targets stand for the
    labels here too: the P of no block of clips is 0 or 1. `ece_after` is taken on the clips of the fit, where
    a curve this free is nearly perfect: judge it by `calibration_report` on other clips.
    """
    # Imported here and below: predicting imports this module, and scikit-learn would cost it two seconds.
    from sklearn.isotonic import IsotonicRegression

    y, x, target = _targets(labels, logits)
    fit = IsotonicRegression(out_of_bounds="clip").fit(x, target)
    knots = tuple(zip(fit.X_thresholds_.tolist(), fit.y_thresholds_.tolist(), strict=True))
    backwards = knots[0][1] == knots[-1][1]
    shape = Calibration("isotonic", knots=knots)
    return Calibration("isotonic", fitted=_fitted(y, x, shape(x), backwards), knots=knots)


def _fit(labels: ArrayLike, logits: ArrayLike, method: str) -> Calibration:
    from scipy.optimize import minimize

    y, x, target = _targets(labels, logits)
    # Scaling makes the problem equally well conditioned whatever the unit of the logits.
    shift = float(x.mean()) if method == "platt" else 0.0
    scale = float(np.sqrt(np.mean((x - shift) ** 2)))
    z = (x - shift) / scale
    with_intercept = method == "platt"

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        t = parameters[0] * z + (parameters[1] if with_intercept else 0.0)
        error = expit(t) - target
        gradient = [np.mean(error * z), np.mean(error)] if with_intercept else [np.mean(error * z)]
        return float(np.mean(np.logaddexp(0, t) - target * t)), np.array(gradient)

    start = [1.0, float(np.log(target.mean() / (1 - target.mean())))] if with_intercept else [1.0]
    bounds = [_SLOPE_BOUNDS, (None, None)] if with_intercept else [_SLOPE_BOUNDS]
    result = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}
    )
    slope = float(result.x[0]) / scale
    intercept = float(result.x[1]) - slope * shift if with_intercept else 0.0
    fitted = _fitted(y, x, expit(slope * x + intercept), result.x[0] <= _SLOPE_BOUNDS[0])
    return Calibration(method, slope, intercept, fitted)


def _targets(labels: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked `(labels, logits, Platt's targets)`, each (N,)."""
    from avdetect.evaluation.metrics import check_scores

    y, x = check_scores(labels, logits, both_classes=True)
    if np.ptp(x) == 0:
        raise DataError(f"All {len(x)} validation logits are {x[0]:.4g}: train the network for longer first.")
    n_fake, n_real = int(y.sum()), int((1 - y).sum())
    return y, x, np.where(y == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))


def _fitted(y: np.ndarray, x: np.ndarray, after: np.ndarray, backwards: bool) -> dict[str, Any]:
    """What is recorded of a fit; warns where the logits do not separate the classes the right way round."""
    from avdetect.evaluation.metrics import ece, log_loss

    note = None
    if backwards:
        note = "validation logits do not rise from genuine to fake: all clips get nearly the same P(fake)"
        log.warning("Calibration: %s.", note)
    fitted = {"n": len(y), "n_fake": int(y.sum()), "note": note}
    for stage, p in (("before", expit(x)), ("after", after)):
        fitted[f"log_loss_{stage}"] = log_loss(y, p)
        fitted[f"ece_{stage}"] = ece(y, p)
    return fitted


def calibration_report(
    labels: ArrayLike, logits: ArrayLike, calibration: Calibration, bins: int = 15
) -> dict[str, Any]:
    """How good P(fake) is before and after, on clips that the calibration was not fitted to.

    "before" is sigmoid(logit), "after" is `calibration`; each has "ece", "log_loss", "brier" and the curve
    "bins": {"mean", "share", "count"} (B,), None in empty bins. The classes need not both be there.
    """
    from avdetect.evaluation.metrics import brier, check_scores, ece, log_loss, reliability

    y, x = check_scores(labels, logits)
    report: dict[str, Any] = {"n": len(y), "n_fake": int(y.sum()), "method": calibration.method}
    for stage, p in (("before", expit(x)), ("after", calibration(x))):
        mean, share, count = reliability(y, p, bins)
        curve = {
            name: [None if np.isnan(value) else float(value) for value in values]
            for name, values in (("mean", mean), ("share", share))
        }
        report[stage] = {
            "ece": ece(y, p, bins), "log_loss": log_loss(y, p), "brier": brier(y, p),
            "bins": {**curve, "count": count.tolist()},
        }  # fmt: skip
    return report


class Thresholds(NamedTuple):
    """The uncertain band of P(fake): real < `real_below` <= uncertain <= `fake_above` < fake."""

    real_below: float
    fake_above: float

    def label(self, score: float | None) -> str:
        """`real`, `fake` or `uncertain`; `unknown` where there is no score (None or NaN)."""
        if score is None or np.isnan(score):
            return "unknown"
        if score > self.fake_above:
            return "fake"
        return "real" if score < self.real_below else "uncertain"


def choose_thresholds(
    labels: ArrayLike,
    scores: ArrayLike,
    max_fpr: float = 0.05,
    max_fnr: float = 0.05,
    min_confidence: float = _MIN_CONFIDENCE,
) -> Thresholds:
    """The uncertain band from validation P(fake), both classes present.

    Rule: `fake_above` is the lowest genuine score that leaves k of the N0 genuine clips above it with (k +
    1) / (N0 + 1) <= `max_fpr`, so that a new genuine clip of the same kind is called fake with at most that
    probability (the conformal bound, true for any N0), and never below `min_confidence`. `real_below`
    mirrors it for fakes with `max_fnr` and 1 - `min_confidence`; so the band always includes 0.5. With too
    few clips to promise the rate (N0 + 1 < 1 / max_fpr) the highest genuine (lowest fake) score takes its
    place and a warning is logged.
    """
    if not (0 < max_fpr < 1 and 0 < max_fnr < 1 and 0.5 <= min_confidence < 1):
        raise ConfigError(
            f"Error rates lie in (0, 1) and min_confidence in [0.5, 1), found max_fpr={max_fpr}, "
            f"max_fnr={max_fnr}, min_confidence={min_confidence}."
        )
    from avdetect.evaluation.metrics import check_scores

    y, p = check_scores(labels, scores, both_classes=True, probabilities=True)
    fake_above = max(_conformal_bound(p[y == 0], max_fpr, "genuine"), min_confidence)
    # Negated, not 1 - bound(1 - p): rounding must not move a clip across its own threshold.
    real_below = min(-_conformal_bound(-p[y == 1], max_fnr, "fake"), 1 - min_confidence)
    return Thresholds(float(real_below), float(fake_above))


def _conformal_bound(values: np.ndarray, rate: float, kind: str) -> float:
    allowed = int(np.floor(rate * (len(values) + 1) + 1e-9)) - 1
    if allowed < 0:
        log.warning(
            "Thresholds: %d %s validation clips are too few to promise an error rate of %g; %d are needed.",
            len(values), kind, rate, int(np.ceil(1 / rate - 1 - 1e-9)),
        )  # fmt: skip
    return float(np.sort(values)[::-1][max(allowed, 0)])


def band_report(labels: ArrayLike, scores: ArrayLike, thresholds: Thresholds) -> dict[str, Any]:
    """What the band does on scored clips: verdicts per class, share decided, errors among the decided.

    `false_alarm_rate` and `miss_rate` are shares of all genuine clips called fake and of all fakes called
    real; None where there is no such clip, as is `error_when_decided` where nothing is decided.
    """
    from avdetect.evaluation.metrics import check_scores

    y, p = check_scores(labels, scores, probabilities=True)
    verdicts = np.array([thresholds.label(score) for score in p])
    counts = {
        name: {v: int(np.sum((y == k) & (verdicts == v))) for v in ("real", "uncertain", "fake")}
        for k, name in ((0, "genuine"), (1, "fake"))
    }
    decided = int(np.sum(verdicts != "uncertain"))
    wrong = counts["genuine"]["fake"] + counts["fake"]["real"]
    n_real, n_fake = int((1 - y).sum()), int(y.sum())
    return {
        "real_below": thresholds.real_below,
        "fake_above": thresholds.fake_above,
        "counts": counts,
        "decided": decided / len(y),
        "error_when_decided": wrong / decided if decided else None,
        "false_alarm_rate": counts["genuine"]["fake"] / n_real if n_real else None,
        "miss_rate": counts["fake"]["real"] / n_fake if n_fake else None,
    }
