"""Layer-wise relevance propagation (Bach et al., PLoS ONE 2015) as input times a modified gradient.

captum's LRP follows modules alone, each of which may be used once, and goes wrong silently at a skip connection's
reused ReLU or at layers that change in place. Here every layer with weights passes its relevance on by the gamma rule
(Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019) in form of its gradient; all between (ReLU,
pooling, sums, means) is positively homogeneous, where input times gradient is such a rule already. The attention map
of AutoAtt networks counts as a constant gate (Arras et al., 2017).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.explain.views import View, frozen

GAMMA = 0.25  # how much more counts what has the sign of the sum
CONSERVED = 0.01  # largest part of the logit that may get lost
INSTEAD = "use layercam or integrated_gradients"

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_HOMOGENEOUS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten,
)  # fmt: skip
_GATE = "attention_conv"


def unsound_part(encoder: Encoder) -> str | None:
    """Name of the first kind of layer for which there is no rule, or None."""
    outside = ("front_end", _GATE, *encoder.training_only)
    for path, module in encoder.named_modules():
        if path.split(".")[0] in outside or any(module.children()):
            continue
        known = (
            isinstance(module, _WEIGHTED + _NORMS + _HOMOGENEOUS) or next(module.parameters(), None) is None
        )
        active = any(
            word in type(module).__name__.lower() for word in ("lu", "sigmoid", "swish", "tanh", "softmax")
        )
        if not known or (active and not isinstance(module, _HOMOGENEOUS)):
            return type(module).__name__
    return None


def lrp(view: View, x: Tensor) -> Tensor:
    """Relevance for *fake*, x (N, …) -> (N, *places).

    Raises ConfigError where more than `CONSERVED` of the logit gets lost: the network does what no rule is known for.
    """
    relevance, biases, logits = relevances(view, x)
    lost = conservation_error(relevance, biases, logits)
    if lost > CONSERVED:
        raise ConfigError(f"lrp loses {lost:.0%} of the logit of {view.encoder.name}: {INSTEAD}")
    return view.to_map(relevance)


def relevances(view: View, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Relevance of the input (of the shape of x), that which the biases take (N,), and the logits (N,)."""
    with frozen(view):
        ruled = _ruled(view)
        rows, taken, logits = [], [], []
        for one in x.detach().split(1):
            one = one.clone().requires_grad_()
            biases = [
                m.bias for m in ruled.modules() if isinstance(m, _Layer | _Affine) and m.bias is not None
            ]
            for bias in biases:
                bias.requires_grad_()
            logit = ruled(one)
            slopes = torch.autograd.grad(logit.sum(), [one, *biases], allow_unused=True)
            rows.append((one * slopes[0]).detach())
            shares = [
                (b * s).sum().detach() for b, s in zip(biases, slopes[1:], strict=True) if s is not None
            ]
            taken.append(torch.stack(shares).sum() if shares else torch.zeros(()))
            logits.append(logit.detach())
    return torch.cat(rows), torch.stack(taken), torch.cat(logits)


def conservation_error(relevance: Tensor, biases: Tensor, logits: Tensor) -> float:
    """Largest |sum of relevance + relevance of the biases - logit| / |logit| over the inputs."""
    found = relevance.flatten(1).sum(1) + biases.to(relevance.device)
    return float(((found - logits).abs() / logits.abs().clamp_min(1e-6)).max())


def _ruled(view: View) -> View:
    """A copy whose gradients are relevances over activations."""
    ruled = copy.deepcopy(view)
    for path, module in list(ruled.named_modules()):
        if path.endswith(_GATE):
            ruled.set_submodule(path, _Constant(module))
        elif f"{_GATE}." in path:
            continue
        elif isinstance(module, _WEIGHTED):
            ruled.set_submodule(path, _Layer(module))
        elif isinstance(module, _NORMS):
            affine = _Affine(module)
            act = getattr(module, "act", None)  # timm joins norm and activation
            ruled.set_submodule(
                path, nn.Sequential(affine, _without_limit(act)) if act is not None else affine
            )
        elif isinstance(module, nn.ReLU6) and ".act" not in path.rpartition("bn")[2]:
            ruled.set_submodule(path, _Limited())
    for module in ruled.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return ruled


def _without_limit(act: nn.Module) -> nn.Module:
    return _Limited() if isinstance(act, nn.ReLU6) else act


class _Limited(nn.Module):
    """ReLU6 that passes all relevance on also where it is at its limit."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.clamp(0.0, 6.0) / torch.where(x > 0, x, 1.0)).detach()


class _Constant(nn.Module):
    """A module whose output gets no relevance."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x).detach()


class _Affine(nn.Module):
    """Batch norm in evaluation, as a scale and a shift under the gamma rule."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        scale = (norm.running_var + norm.eps).rsqrt()
        shift = -norm.running_mean * scale
        if norm.affine:
            scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
        self.register_buffer("scale", scale.detach())
        self.bias = nn.Parameter(shift.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.ndim - 2))
        scaled, bias = x * self.scale.view(shape), self.bias.view(shape)
        parts = [scaled.clamp_min(0) + bias.clamp_min(0), scaled.clamp_max(0) + bias.clamp_max(0)]
        return _favouring(*parts)


class _Layer(nn.Module):
    """A layer with weights: its output as it is, its gradient that of the gamma rule."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.bias = layer.bias
        self.over, self.under = copy.deepcopy(layer), copy.deepcopy(layer)
        for half, clamp in ((self.over, torch.relu), (self.under, lambda w: -torch.relu(-w))):
            half.weight.data, half.bias = clamp(layer.weight.data), None

    def forward(self, x: Tensor) -> Tensor:
        plus, minus = x.clamp_min(0), x.clamp_max(0)
        raising = self.over(plus) + self.under(minus)
        lowering = self.under(plus) + self.over(minus)
        if self.bias is not None:
            bias = self.bias.view(-1, *[1] * (x.ndim - 2)) if self.over.weight.ndim > 2 else self.bias
            raising, lowering = raising + bias.clamp_min(0), lowering + bias.clamp_max(0)
        return _favouring(raising, lowering)


def _favouring(raising: Tensor, lowering: Tensor) -> Tensor:
    """raising + lowering, with a gradient that favours, by `GAMMA`, the part of the same sign as the sum.

    So what is divided by is never smaller than the sum, whatever the signs of inputs and weights: the gamma rule as
    Andéol et al. (2021) generalise it.
    """
    total = (raising + lowering).detach()
    favoured = torch.where(total > 0, (1 + GAMMA) * raising + lowering, raising + (1 + GAMMA) * lowering)
    safe = torch.where(favoured.abs() > 1e-12, favoured, torch.ones_like(favoured))
    return favoured * (total / safe).detach()
