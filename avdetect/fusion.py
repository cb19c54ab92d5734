"""The late-fusion head: joins what the encoders say of a clip into one logit.

A clip is fake if its face is fake, or its voice, or the bond between lips and sound: the head is a noisy OR
over causes (Pearl 1988, section 4.3.2), P(fake) = 1 - prod_m (1 - sigmoid(s_m)), over the modalities that are
there, and one joint cause that sees all of them together. A missing modality drops out of the product, so
silent videos, recordings and images get a proper answer without imputation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.errors import WeightsError
from avdetect.evidence import MODALITIES

Features = dict[str, tuple[np.ndarray, np.ndarray] | None]


class FusionHead(nn.Module):
    """Joins modalities. `dims`: per modality (number of scalars, size of the embedding).

    Starts as the plain noisy OR of the encoders' own logits; training moves it from there.
    """

    def __init__(self, dims: dict[str, tuple[int, int]], hidden: int = 8, dropout: float = 0.3):
        super().__init__()
        self.modalities = [name for name in MODALITIES if name in dims]
        if not self.modalities:
            raise WeightsError("a fusion head needs at least one modality")
        self.settings = {
            "dims": {name: list(dims[name]) for name in self.modalities},
            "hidden": hidden,
            "dropout": dropout,
        }
        self.dims = {name: tuple(dims[name]) for name in self.modalities}
        self.dropout = nn.Dropout(dropout)
        self.log_scale = nn.Parameter(torch.zeros(len(self.modalities)))
        self.bias = nn.Parameter(torch.zeros(len(self.modalities)))
        self.more = nn.ModuleDict()
        self.project = nn.ModuleDict()
        for name in self.modalities:
            size = sum(dims[name])
            self.more[name] = nn.Linear(size, 1, bias=False)
            self.project[name] = nn.Linear(size, hidden)
            nn.init.zeros_(self.more[name].weight)
            self.register_buffer(f"mean_{name}", torch.zeros(size))
            self.register_buffer(f"std_{name}", torch.ones(size))
        self.joint = nn.Linear(hidden * len(self.modalities) + len(self.modalities), hidden)
        self.joint_out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.joint_out.weight)
        nn.init.constant_(self.joint_out.bias, -4.0)

    def standardise_by(self, batch: dict[str, Tensor]) -> None:
        """Take means and spreads of the features from the training clips (see `stack_features`)."""
        for index, name in enumerate(self.modalities):
            there = batch[name][batch["mask"][:, index]]
            if len(there) > 1:
                getattr(self, f"mean_{name}").copy_(there.mean(0))
                getattr(self, f"std_{name}").copy_(there.std(0).clamp_min(1e-3))

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Fused logits (N,) and logits per modality (N, M), in the order of `modalities`.

        batch: per modality (N, scalars + embedding) with the encoder's logit first, and `mask` (N, M) bool.
        Rows without any modality give -inf: whoever asks must not ask for them.
        """
        mask = batch["mask"]
        causes, hidden = [], []
        for index, name in enumerate(self.modalities):
            x = batch[name]
            z = self.dropout((x - getattr(self, f"mean_{name}")) / getattr(self, f"std_{name}"))
            there = mask[:, index, None].to(x.dtype)
            causes.append(
                self.log_scale[index].exp() * x[:, 0] + self.bias[index] + self.more[name](z).squeeze(1)
            )
            hidden.append(F.relu(self.project[name](z)) * there)
        causes = torch.stack(causes, 1)
        if len(self.modalities) == 1:
            return causes[:, 0].masked_fill(~mask[:, 0], -torch.inf), causes
        joint = self.joint_out(F.relu(self.joint(torch.cat([*hidden, mask.to(x.dtype)], 1))))
        several = mask.sum(1, keepdim=True) > 1
        log_genuine = F.logsigmoid(-causes).masked_fill(~mask, 0.0).sum(1, keepdim=True)
        log_genuine = log_genuine + F.logsigmoid(-joint).masked_fill(~several, 0.0)
        logit = logit_of_log_complement(log_genuine.squeeze(1))
        return logit.masked_fill(~mask.any(1), -torch.inf), causes


def logit_of_log_complement(log_genuine: Tensor) -> Tensor:
    """logit(P) from log(1 - P): log(expm1(-log(1 - P))), stable at both ends; the least is that of P = 1e-38."""
    x = -log_genuine
    # log(expm1(x)) = x + log(1 - exp(-x)); for small x, expm1 keeps the digits. Below `tiny` neither value nor gradient
    # is a number: the logit stands still there, so that one clip that is surely genuine does not end a training.
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(
        x > 1.0, x + torch.log1p(-torch.exp(-x.clamp_min(1.0))), torch.log(torch.expm1(x.clamp(tiny, 1.0)))
    )


def stack_features(
    rows: list[Features], modalities: list[str], dims: dict[str, tuple[int, int]]
) -> dict[str, Tensor]:
    """Batch of clips for the head: zeros where a modality is missing, and the mask that says so."""
    batch: dict[str, Tensor] = {}
    mask = np.zeros((len(rows), len(modalities)), bool)
    for index, name in enumerate(modalities):
        values = np.zeros((len(rows), sum(dims[name])), np.float32)
        for row, features in enumerate(rows):
            if features[name] is not None:
                values[row] = np.concatenate(features[name])
                mask[row, index] = True
        batch[name] = torch.from_numpy(values)
    batch["mask"] = torch.from_numpy(mask)
    return batch
