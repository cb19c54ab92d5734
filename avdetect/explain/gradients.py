"""Attributions of single places by captum: from gradients, and from sliding a patch over the input."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avdetect.errors import ConfigError
from avdetect.explain.views import View, frozen

STEPS, MOST_STEPS = 32, 1024  # of integrated gradients; doubled until they add up
ADDS_UP = 0.005  # largest error of the sum, as a part of the difference that it should be


SHAP_DRAWS, SMOOTH_DRAWS = 64, 16
NOISE = 0.1  # of both, as a part of the input's deviation
PATCH, PATCH_STEP = 6, 12  # occlusion: the patch is this part of a side, its step that
MOUTH_PATCH, MOUTH_STEP = 10, 3  # … over mouths, frames


@contextmanager
def seeded() -> Iterator[None]:
    """Random draws that are the same every time, and leave those of others alone."""
    before = np.random.get_state()  # captum draws from numpy's as well
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            np.random.seed(0)
            yield
    finally:
        np.random.set_state(before)


def captum_attr() -> Any:
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
    """Size of the gradient (Simonyan et al., 2014), mean over noisy copies (SmoothGrad, Smilkov et al., 2017).

    x (N, …) -> (N, *places), 0 and above.
    """
    attr, rows = captum_attr(), []
    with frozen(view), seeded():
        method = attr.NoiseTunnel(attr.Saliency(view))
        for one in x.split(1):
            options = {"nt_samples": SMOOTH_DRAWS, "stdevs": NOISE * float(one.std()), "abs": True}
            rows.append(method.attribute(_leaf(one), nt_type="smoothgrad", **options).detach())
    return view.to_map(torch.cat(rows))


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


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


def gradient_shap(view: View, x: Tensor) -> Tensor:
    """Expected gradients between noisy copies and the baseline (Lundberg and Lee, 2017), x -> (N, *places)."""
    method, rows = captum_attr().GradientShap(view), []
    with frozen(view), seeded():
        for one in x.detach().split(1):
            options = {"n_samples": SHAP_DRAWS, "stdevs": NOISE * float(one.std())}
            rows.append(method.attribute(one.clone(), view.baseline(one), **options).detach())
    return view.to_map(torch.cat(rows))


def guided_backprop(view: View, x: Tensor) -> Tensor:
    """Gradient in which no ReLU passes on what lowers the logit (Springenberg et al., 2015), size at each place."""
    own = copy.deepcopy(view)
    for module in own.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    with frozen(own):
        return view.to_map(captum_attr().GuidedBackprop(own).attribute(_leaf(x)).abs()).detach()


def occlusion(view: View, x: Tensor) -> Tensor:
    """By how much the logit falls when a patch is taken away (Zeiler and Fergus, 2014), x (N, …) -> (N, *places)."""
    shape = tuple(x.shape[1:])
    if view.modality == "lipsync":
        patch = (min(MOUTH_PATCH, shape[0]),)
        step = (min(MOUTH_STEP, *patch),)
    else:
        sides = shape[-2:]
        patch = (*shape[:-2], *(max(1, side // PATCH) for side in sides))
        step = (*shape[:-2], *(max(1, side // PATCH_STEP) for side in sides))
    method = captum_attr().Occlusion(view)
    with torch.no_grad():
        rows = [
            method.attribute(one, patch, step, baselines=view.baseline(one), perturbations_per_eval=16)
            for one in x.detach().split(1)
        ]
    # each value stands for the whole column of the patch over colours or channels
    return view.to_map(torch.cat(rows)) / (x[0].numel() / view.to_map(x[:1]).numel())
