"""The methods, what each one's numbers mean, and for which network each is sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.explain import gradients
from avdetect.explain.cam import VARIANTS, cam
from avdetect.explain.views import View, has_front


@dataclass(frozen=True)
class Method:
    """run: (view, x) -> maps (N, *places); signed: whether places below 0 speak for genuine; costly: whether it takes
    hundreds of passes for one input; meaning: one sentence on what a map says, for a person; refusal: None where the
    method is sound for an encoder, else the sentence that says what to use.
    """

    name: str
    run: Callable[[View, Tensor], Tensor]
    signed: bool
    meaning: str
    refusal: Callable[[Encoder], str | None]
    costly: bool = False


def _needs_layers(encoder: Encoder) -> str | None:
    if encoder.kind == "audio" and not has_front(encoder):
        return (
            f"{encoder.name} hears the waveform itself, so that its layers cannot be followed back to a spectrogram: "
            "use occlusion, kernel_shap or lime"
        )
    return None


_CAM_MEANING = "bright places raise the network's evidence for fake, seen at the size of its last layers"

_ALL = [
    *(Method(name, partial(cam, variant=name), False, _CAM_MEANING, _needs_layers) for name in VARIANTS),
    Method(
        "saliency", gradients.saliency, False,
        "bright places are those where a small change moves the network's evidence for fake most, either way",
        _needs_layers,
    ),
    Method(
        "integrated_gradients", gradients.integrated_gradients, True,
        "how much each place adds to the evidence for fake (below 0: for genuine), against an input without content",
        _needs_layers,
    ),
]  # fmt: skip
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def methods_for(encoder: Encoder) -> dict[str, str | None]:
    """Every method -> None where it is sound for this network, else one sentence that says why not and what to use."""
    return {name: method.refusal(encoder) for name, method in METHODS.items()}


def default_method(encoder: Encoder) -> str:
    """The method that is taken where none is named."""
    return next(name for name, refused in methods_for(encoder).items() if refused is None)


def choose_method(encoder: Encoder, name: str | None) -> Method:
    """Raises ConfigError where there is no such method, and where it is not sound for the encoder."""
    name = default_method(encoder) if name is None else name
    if name not in METHODS:
        raise ConfigError(f"there is no explanation method '{name}'; take one of {', '.join(METHODS)}")
    refused = METHODS[name].refusal(encoder)
    if refused is not None:
        raise ConfigError(f"{name} does not hold here: {refused}")
    return METHODS[name]
