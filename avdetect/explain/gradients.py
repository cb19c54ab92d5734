"""Attributions from the gradient of the logit, by captum."""

from __future__ import annotations

import torch
from torch import Tensor

from avdetect.errors import ConfigError
from avdetect.explain.views import View, frozen

STEPS, MOST_STEPS = 32, 256  # of integrated gradients; doubled until they add up
ADDS_UP = 0.005  # largest error of the sum, as a part of the difference that it should be


def captum_attr():
    """`captum.attr`. Raises ConfigError where captum is not installed."""
    try:
        import captum.attr
    except ImportError as error:
        raise ConfigError(
            'this explanation is worked out by captum, which is not installed: pip install "avdetect[explain]", '
            "or use gradcam"
        ) from error
    return captum.attr


def saliency(view: View, x: Tensor) -> Tensor:
    """Size of the gradient (Simonyan et al., 2014), x (N, …) -> (N, *places), 0 and above."""
    with frozen(view):
        return view.to_map(captum_attr().Saliency(view).attribute(x.detach().clone(), abs=True)).detach()


def integrated_gradients(view: View, x: Tensor) -> Tensor:
    """x (N, …) -> (N, *places) that sum to logit(x) - logit(baseline) (Sundararajan et al., ICML 2017)."""
    return view.to_map(integrated(view, x))


def integrated(view: View, x: Tensor) -> Tensor:
    """Integrated gradients of the shape of x, in as many steps as it takes to add up (at most `MOST_STEPS`)."""
    x = x.detach().clone()
    baseline = view.baseline(x)
    method, rows = captum_attr().IntegratedGradients(view), []
    with frozen(view):
        for i in range(len(x)):
            one, none = x[i : i + 1], baseline[i : i + 1]
            with torch.no_grad():
                expected = float(view(one) - view(none))
            steps = STEPS
            while True:
                row = method.attribute(one, none, n_steps=steps, internal_batch_size=16).detach()
                error = abs(float(row.sum()) - expected)
                if error <= ADDS_UP * abs(expected) or steps >= MOST_STEPS:
                    break
                steps *= 2
            rows.append(row)
    return torch.cat(rows)
