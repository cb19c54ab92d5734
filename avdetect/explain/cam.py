"""Class activation maps: which places of a layer's maps raise the logit of *fake*. Needs torch alone.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs each channel by the mean of the logit's gradient; LayerCAM (Jiang et al.,
IEEE TIP 2021) weighs each place by itself, so that it may look at a finer layer. Both leave out what lowers the logit.
Grad-CAM++ is not offered: its weights are never negative, and with random weights its maps stay much as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.explain.views import FaceView, SpectrogramView, View, frozen

VARIANTS = {"gradcam": "Grad-CAM", "layercam": "LayerCAM"}
_EPSILON = 1e-12
# ReLU, Swish and their like give no less: maps before them do not say where a channel is active
LEAST_ACTIVE = -0.3


def cam(view: FaceView | SpectrogramView, x: Tensor, variant: str = "gradcam") -> Tensor:
    """x (N, …) -> maps (N, *places), 0 and above.

    Raises ConfigError for a network that keeps no map of places.
    """
    layers = _maps_and_slopes(view, x)
    if not layers:
        raise ConfigError(
            f"{view.encoder.name} has no convolution to draw {VARIANTS[variant]} of: "
            "use integrated_gradients or occlusion"
        )
    maps, slopes = layers[-1]
    if variant == "layercam":
        # one step of resolution finer than the last, where there is one
        finer = [layer for layer in layers if layer[0][0, 0].numel() > maps[0, 0].numel()]
        maps, slopes = finer[-1] if finer else layers[-1]
        weighed = F.relu(slopes) * maps
    else:
        weighed = slopes.mean(tuple(range(2, maps.ndim)), keepdim=True) * maps
    heat = F.relu(weighed.sum(1))
    return view.enlarge(heat, x).detach()


def gradcam_maps(encoder: Encoder, x: Tensor) -> Tensor:
    """Grad-CAM of a visual encoder: inputs (N, 3, H, W) -> maps (N, H, W), each from 0 to 1.

    Raises ConfigError for a network without a convolution to draw it of.
    """
    maps = cam(FaceView(encoder), x)
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(_EPSILON)


def _maps_and_slopes(view: View, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs of modules that are maps over places, and the logit's gradient there, in forward order."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and _as_maps(output, view, x) is not None:
            found.append(output)

    with frozen(view):
        hooks = [module.register_forward_hook(keep) for module in view.modules()]
        try:
            logits = view(x.detach().clone().requires_grad_())
        finally:
            for hook in hooks:
                hook.remove()
        if not found:
            return []
        slopes = torch.autograd.grad(logits.sum(), found, allow_unused=True)
    layers = []
    for output, slope in zip(found, slopes, strict=True):
        if slope is None:
            continue
        maps, tilt = _as_maps(output.detach(), view, x), _as_maps(slope, view, x)
        if bool(tilt.any()):  # where only a class token is read on, no place has a gradient
            layers.append((maps, tilt))
    return [layer for layer in layers if float(layer[0].min()) >= LEAST_ACTIVE] or layers


def _as_maps(output: Tensor, view: View, x: Tensor) -> Tensor | None:
    """A module's output as (N, C, *coarse places), or None where it is none."""
    if len(output) != len(x):
        return None
    if output.ndim == 4 and min(output.shape[-2:]) > 1:
        square = view.modality == "audio" or output.shape[-1] == output.shape[-2]
        return output if square else None
    if output.ndim == 3 and view.modality == "visual":
        # a transformer's tokens, the first of which is the class's
        side = round((output.shape[1] - 1) ** 0.5)
        if side > 1 and side * side == output.shape[1] - 1:
            return output[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    return None
