"""The methods, what each one's numbers mean, and for which network each is sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.explain import gradients
from avdetect.explain.cam import VARIANTS, cam
from avdetect.explain.lrp import INSTEAD, lrp, unsound_part
from avdetect.explain.regions import kernel_shap, lime
from avdetect.explain.views import View, has_front


@dataclass(frozen=True)
class Method:
    """run: (view, x) -> maps (N, *places); signed: whether places below 0 speak for genuine; costly: whether it takes
    hundreds of passes for one input; meaning: one sentence on what a map says, for a person; refusal: None where the
    method is sound for an encoder, else the sentence that says what to use; evidence: whether a map
    claims to tell how much each place adds to the logit.
    """

    name: str
    run: Callable[[View, Tensor], Tensor]
    signed: bool
    meaning: str
    refusal: Callable[[Encoder], str | None]
    costly: bool = False
    evidence: bool = True


def _needs_layers(encoder: Encoder) -> str | None:
    if encoder.kind == "audio" and not has_front(encoder):
        return (
            f"{encoder.name} hears the waveform itself, so that its layers cannot be followed back to a spectrogram: "
            "use occlusion, kernel_shap or lime"
        )
    if encoder.kind == "lipsync":
        return (
            f"{encoder.name} compares lips and sound over the whole clip, so that a gradient at one moment says little "
            "of that moment: use occlusion, kernel_shap or lime"
        )
    return None


def _saturates(encoder: Encoder) -> str | None:
    """Saliency failed the pointing game on networks that found their artefact, the built-in face network among them."""
    return _needs_layers(encoder) or (
        f"where {encoder.name} is sure of an artefact its gradient vanishes, so that saliency points beside it: "
        "use integrated_gradients or layercam"
    )


def _outlives(encoder: Encoder) -> str | None:
    return _needs_layers(encoder) or (
        "guided back-propagation redraws the edges of its input even where the weights are random (Adebayo et al., "
        "NeurIPS 2018), and activations other than ReLU have no rule for it: use integrated_gradients or layercam"
    )


def _needs_rules(encoder: Encoder) -> str | None:
    refused = _needs_layers(encoder)
    if refused is not None:
        return refused
    if encoder.kind == "visual" and encoder.preprocess.frames > 1:
        return f"no rule of relevance is known for how {encoder.name} compares frames: {INSTEAD}"
    part = unsound_part(encoder)
    return part and f"no rule of relevance holds for the {part} layers of {encoder.name}: {INSTEAD}"


def _needs_attention(encoder: Encoder) -> str | None:
    if not hasattr(encoder, "attention"):
        return f"{encoder.name} has no attention map: use {default_method(encoder)}"
    return None


def _holds(encoder: Encoder) -> str | None:
    return None


def _attention(view: View, x: Tensor) -> Tensor:
    """The network's own map (N, 3, S, S) -> (N, S, S), each value in [0, 1]."""
    with torch.no_grad():
        return view.enlarge(view.encoder.attention(x)[:, 0], x)


_CAM = "bright places raise the network's evidence for fake, as coarsely as its last layers see"
_SIGNED = "red places add to the network's evidence for fake, blue ones to that for genuine"

_ALL = [
    *(Method(name, partial(cam, variant=name), False, _CAM, _needs_layers) for name in VARIANTS),
    Method(
        "saliency", gradients.saliency, False,
        "bright places are those where a small change moves the network's evidence most, to fake or to genuine",
        _saturates,
    ),
    Method(
        "guided_backprop", gradients.guided_backprop, False,
        "bright places are those whose edges reach the network's evidence through active units alone", _outlives,
    ),
    Method(
        "integrated_gradients", gradients.integrated_gradients, True,
        f"{_SIGNED}; all together make up the difference to an input without content", _needs_layers,
    ),
    Method(
        "gradient_shap", gradients.gradient_shap, True,
        f"{_SIGNED}, on average over noisy inputs", _needs_layers,
    ),
    Method("lrp", lrp, True, f"{_SIGNED}, handed back from the logit layer by layer", _needs_rules),
    Method(
        "occlusion", gradients.occlusion, True,
        f"{_SIGNED}: by so much it falls when a patch there is taken away", _holds, costly=True,
    ),
    Method(
        "kernel_shap", kernel_shap, True, f"{_SIGNED}: each region's fair share in it", _holds, costly=True
    ),
    Method("lime", lime, True, f"{_SIGNED}: each region's weight in a linear model of it", _holds, costly=True),
    Method(
        "attention", _attention, False,
        "bright places are those that the network looks at; that is no evidence for fake", _needs_attention,
        evidence=False,
    ),
]  # fmt: skip
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def methods_for(encoder: Encoder) -> dict[str, str | None]:
    """Every method -> None where it is sound for this network, else one sentence that says why not and what to use."""
    return {name: method.refusal(encoder) for name, method in METHODS.items()}


def default_method(encoder: Encoder) -> str:
    """The method that is taken where none is named: quick, and the surest of those in the pointing game."""
    return "layercam" if _needs_layers(encoder) is None else "occlusion"


def unknown_method(name: str) -> str:
    return f"there is no explanation method '{name}'; take one of {', '.join(METHODS)}"


def choose_method(encoder: Encoder, name: str | None) -> Method:
    """Raises ConfigError where there is no such method, and where it is not sound for the encoder."""
    name = default_method(encoder) if name is None else name
    if name not in METHODS:
        raise ConfigError(unknown_method(name))
    refused = METHODS[name].refusal(encoder)
    if refused is not None:
        raise ConfigError(f"{name} does not hold here: {refused}")
    return METHODS[name]
