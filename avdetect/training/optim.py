"""Which parameters learn, and how fast: freezing, learning rates by layer, optimisers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.training.settings import FitSettings


def network_of(model: nn.Module) -> nn.Module:
    """The network that settings name parts of: a task's model, or the encoder that its passes wrap."""
    inner = getattr(model, "encoder", None)
    return inner if isinstance(inner, Encoder) else model


def freeze(model: nn.Module, settings: FitSettings) -> list[nn.Parameter]:
    """Take the parts that the settings name out of the training; returns the parameters that did learn before.

    Raises ConfigError for a prefix that fits nothing, and where nothing would be left to learn.
    """
    network = network_of(model)
    named = dict(network.named_parameters())
    chosen = {name for prefix in settings.freeze for name in _under(network, prefix, "freeze")}
    if settings.freeze_features:
        chosen |= set(named) - _head(network)
    frozen = [named[name] for name in sorted(chosen) if named[name].requires_grad]
    if len(frozen) == sum(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"everything of {_name(network)} is frozen: leave a part of it out of freeze")
    for parameter in frozen:
        parameter.requires_grad_(False)
    return frozen


def train_mode(model: nn.Module) -> None:
    """Training mode, but for modules of which every parameter is frozen: they work as in evaluation.

    Their batch norms neither use nor gather statistics of the batches, and they drop nothing.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def build_optimizer(model: nn.Module, settings: FitSettings) -> tuple[torch.optim.Optimizer, list[float]]:
    """The optimiser over what is not frozen, and the factor of the learning rate of each of its groups."""
    groups: dict[float, list[nn.Parameter]] = {}
    scales = _scales(model, settings)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(scales.get(name, 1.0), []).append(parameter)
    s, parameters = settings, [{"params": members} for members in groups.values()]
    if s.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
    else:
        kind = torch.optim.AdamW if s.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(parameters, lr=s.lr, betas=s.betas, weight_decay=s.weight_decay)
    return optimizer, list(groups)


def schedule_factor(settings: FitSettings, step: int, steps: int) -> float:
    """Factor of the learning rate at a step of `steps`, without what a plateau took off."""
    factor = min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.schedule == "cosine":
        floor = 0.01 if settings.lr_min is None else settings.lr_min / settings.lr if settings.lr else 1.0
        progress = min(1.0, step / max(1, steps))
        factor *= floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return factor


def depth_groups(network: nn.Module) -> list[list[str]]:
    """Names of all parameters in groups of layers, from the input to the head, for `layer_decay`.

    The network's children in the order in which it lists them; one that is a list of modules, or holds half of
    all parameters, is taken apart in the same way. What has no matrix or kernel (a norm) belongs to what stands
    before it. The head (`Encoder.head_prefixes`) is the last group.
    """
    head, total = _head(network), sum(p.numel() for p in network.parameters())

    def parts(module: nn.Module, prefix: str) -> Iterable[list[str]]:
        yield [prefix + name for name, _ in module.named_parameters(recurse=False)]
        for name, child in module.named_children():
            size = sum(p.numel() for p in child.parameters())
            apart = isinstance(child, nn.Sequential | nn.ModuleList) or 2 * size >= total
            if apart and any(True for _ in child.children()):
                yield from parts(child, f"{prefix}{name}.")
            else:
                yield [f"{prefix}{name}.{key}" for key, _ in child.named_parameters()]

    dims = {name: parameter.ndim for name, parameter in network.named_parameters()}
    groups: list[list[str]] = []
    for names in parts(network, ""):
        names = [name for name in names if name not in head]
        if groups and all(dims[name] < 2 for name in names):
            groups[-1] += names
        elif names:
            groups.append(names)
    return [*groups, sorted(head)]


def _scales(model: nn.Module, settings: FitSettings) -> dict[str, float]:
    """Factor of the rate by parameter name of `model`; a name that is not there has 1."""
    network, scales = network_of(model), {}
    if settings.layer_decay != 1.0:
        groups = depth_groups(network)
        for depth, names in enumerate(reversed(groups)):
            scales |= dict.fromkeys(names, settings.layer_decay**depth)
    by_prefix = settings.lr_scale or {}
    fitting = {prefix: _under(network, prefix, "lr_scale") for prefix in by_prefix}
    for name, _ in network.named_parameters():
        prefixes = [prefix for prefix, names in fitting.items() if name in names]
        if prefixes:
            scales[name] = scales.get(name, 1.0) * by_prefix[max(prefixes, key=len)]
    outer = "" if network is model else "encoder."
    return {outer + name: scale for name, scale in scales.items()}


def _under(network: nn.Module, prefix: str, setting: str) -> set[str]:
    """Names of the parameters at or below a dotted prefix."""
    prefix = prefix.rstrip(".")
    names = [name for name, _ in network.named_parameters()]
    found = {name for name in names if name == prefix or name.startswith(prefix + ".")}
    if found:
        return found
    above = prefix
    while above and not any(name.startswith(above + ".") for name in names):
        above = above.rpartition(".")[0]
    start = above + "." if above else ""
    known = dict.fromkeys(start + n.removeprefix(start).split(".")[0] for n in names if n.startswith(start))
    raise ConfigError(
        f"{setting} names {prefix!r}, but {_name(network)} has no such part: choose of {', '.join(known)}"
    )


def _head(network: nn.Module) -> set[str]:
    prefixes = getattr(network, "head_prefixes", Encoder.head_prefixes)
    return {name for prefix in prefixes for name in _under(network, prefix, "head_prefixes")}


def _name(network: nn.Module) -> str:
    return getattr(network, "name", type(network).__name__)
