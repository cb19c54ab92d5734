"""Adversarial training: small changes of the input, made to raise the loss, that the network learns to withstand.

FGSM: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", ICLR 2015. PGD: Madry et al., "Towards
Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018. Both in the maximum norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.transforms import AudioPreprocess, VisualPreprocess
from avdetect.transforms.settings import Settings

Loss = Callable[[Tensor, Tensor], Tensor]

# Half precision would lose small derivatives of the loss; only their sign counts.
GRADIENT_SCALE = 1024.0


@dataclass(frozen=True)
class Adversarial(Settings):
    """How inputs are perturbed in training.

    name: "fgsm" (one step of `epsilon`) or "pgd" (a random start, then `steps` steps of `step_size`, each brought
    back to within `epsilon`). epsilon, step_size: in units of the input before normalisation: of pictures with
    values in [0, 1] (2/255 = 0.0078), of waveforms the amplitude, full scale 1. step_size: None is
    2.5 epsilon / steps. weight: of the loss on perturbed inputs, the rest is on clean ones; Goodfellow et al. give
    0.5, Madry et al. 1.
    """

    name: str = "pgd"
    epsilon: float = 2 / 255
    steps: int = 7
    step_size: float | None = None
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in ("fgsm", "pgd"):
            raise ConfigError(f"unknown attack {self.name!r}: use fgsm or pgd")
        positive = self.epsilon > 0 and self.steps >= 1 and (self.step_size is None or self.step_size > 0)
        if not positive or not 0 < self.weight <= 1:
            raise ConfigError(
                f"adversarial training has epsilon {self.epsilon}, steps {self.steps}, step_size "
                f"{self.step_size}, weight {self.weight}: all must be positive, the weight at most 1"
            )

    def perturb(self, encoder: Encoder, x: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """Inputs x (N, …) of an encoder, normalised -> perturbed ones of the same shape, without gradient.

        The result stays where an input can be: pictures in black … white, waveforms within full scale (or within
        the range of a sample that is already beyond it). The encoder works in evaluation mode meanwhile: its
        dropout is off, its batch norms use their running statistics and do not gather any. Gradients of its
        parameters are left alone. A random start draws from torch's global generator.
        """
        unit, low, high = _range(encoder, x)
        reach = self.epsilon * unit
        low, high = torch.maximum(x - reach, low), torch.minimum(x + reach, high)
        steps, size = (1, self.epsilon) if self.name == "fgsm" else (self.steps, self.step_size)
        size = 2.5 * self.epsilon / steps if size is None else size
        start = x if self.name == "fgsm" else x + reach * (2 * torch.rand_like(x) - 1)
        found = torch.clamp(start, low, high).detach()
        with _evaluating(encoder), torch.enable_grad():
            for _ in range(steps):
                found.requires_grad_(True)
                height = loss(encoder(found).float(), labels)
                (slope,) = torch.autograd.grad(GRADIENT_SCALE * height, found)
                found = torch.clamp(found.detach() + size * unit * slope.sign(), low, high)
        return found


def _range(encoder: Encoder, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One unit of the raw input, the smallest and the largest valid value, each to be broadcast to x."""
    pre = encoder.preprocess
    if isinstance(pre, VisualPreprocess):  # (…, 3, H, W)
        mean, std = (torch.tensor(value, device=x.device).view(3, 1, 1) for value in (pre.mean, pre.std))
        return 1 / std, -mean / std, (1 - mean) / std
    if isinstance(pre, AudioPreprocess):
        one = torch.ones((), device=x.device)
        return one, x.clamp(max=-1), x.clamp(min=1)
    raise ConfigError(
        f"adversarial training knows the range of pictures and of waveforms, not of the input of {encoder.name}: "
        "leave adversarial out"
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while. Recurrent layers stay as they are: cuDNN has no gradients for them in it."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = part.training and isinstance(part, nn.RNNBase)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
