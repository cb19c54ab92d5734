"""How a network is trained, as a configuration states it; checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from avdetect.errors import ConfigError
from avdetect.transforms.settings import Settings

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "plateau", "constant")
PRECISIONS = ("auto", "no", "bf16", "fp16")


@dataclass(frozen=True)
class FitSettings(Settings):
    """How long, how fast, and which parts.

    epochs: at most, 0 keeps the weights as they are. An epoch ends with a validation; to validate every n steps,
    let the loader's epoch be n batches (`batches_per_epoch` in a recipe).

    optimizer: "adamw" (Loshchilov and Hutter 2019), "adam" (Kingma and Ba 2015) or "sgd"; `betas` are of the
    first two, `momentum` is of the last. weight_decay: decoupled from the gradient with adamw, L2 otherwise.

    schedule: "cosine" (to `lr_min` at the last step, to 1 % of lr where that is None), "plateau" (times
    `plateau_factor` in the epoch after `plateau_patience` epochs without gain, and again after as many more, as
    torch's ReduceLROnPlateau counts; None: at every half of `patience`) or "constant"; warmup: optimiser steps
    of linear rise; lr_stop: training ends once a plateau has brought the rate below it.

    patience: epochs without gain before stopping; clip_norm: largest norm of the gradient, None leaves it;
    monitor: name of the validation metric, `-NAME` where less is better; precision: "auto", "no", "bf16", "fp16".

    average: decay per step of an exponential moving average of the weights (0.999, say), which is then what is
    validated and kept (Polyak averaging; Tarvainen and Valpola, "Mean teachers", NIPS 2017); None: the last weights.

    Fine-tuning, by dotted prefixes of the network's parameter names (`backbone.blocks.0`): freeze: parts that
    stay as they are; freeze_features: all but the head; lr_scale: factor of the rate by prefix, the longest that
    fits counts; layer_decay: factor of the rate per group of layers, from the head (1) down, times `lr_scale`.
    """

    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup: int = 20
    patience: int = 10
    clip_norm: float | None = 5.0
    monitor: str = "auc"
    precision: str = "auto"
    seed: int = 0
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    lr_min: float | None = None
    plateau_factor: float = 0.1
    plateau_patience: int | None = None
    lr_stop: float = 0.0
    freeze: tuple[str, ...] = ()
    freeze_features: bool = False
    lr_scale: dict[str, float] | None = None
    layer_decay: float = 1.0
    average: float | None = None

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}: use {', '.join(known[:-1])} or {known[-1]}")
        checks = {
            "lr": (self.lr >= 0, "0 or more"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup": (self.warmup >= 0, "0 or more"),
            "patience": (self.patience >= 0, "0 or more"),
            "epochs": (self.epochs >= 0, "0 or more"),
            "betas": (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "lr_min": (self.lr_min is None or 0 <= self.lr_min <= self.lr, "between 0 and lr"),
            "lr_stop": (0 <= self.lr_stop <= self.lr, "between 0 and lr"),
            "plateau_factor": (0 < self.plateau_factor < 1, "between 0 and 1"),
            "plateau_patience": (self.plateau_patience is None or self.plateau_patience >= 0, "0 or more"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "positive, or null for none"),
            "average": (self.average is None or 0 < self.average < 1, "between 0 and 1, or null for none"),
            "layer_decay": (0 < self.layer_decay <= 1, "in (0, 1]"),
            "lr_scale": (
                all(f >= 0 for f in (self.lr_scale or {}).values()),
                "factors of 0 or more by prefix",
            ),
            "freeze": (not isinstance(self.freeze, str), "a list of prefixes"),
        }
        for name, (right, wanted) in checks.items():
            if not right:
                raise ConfigError(
                    f"the training setting {name} is {getattr(self, name)!r}: it must be {wanted}"
                )

    @property
    def plateau_interval(self) -> int:
        """Epochs without gain at whose every multiple the rate is lowered."""
        if self.plateau_patience is None:
            return max(1, self.patience // 2)
        return self.plateau_patience + 1
