"""Names of all encoders. The classes are imported when one is created, so that listing is quick."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdetect.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from avdetect.encoders.base import Encoder

KINDS = ("visual", "audio", "lipsync")


@dataclass(frozen=True)
class _Entry:
    kind: str
    target: str  # "module:Class" below avdetect.encoders
    preset: Mapping[str, Any] = dataclass_field(default_factory=dict)  # settings that make this variant


_ENTRIES: dict[str, _Entry] = {
    "efficientnet_autoatt_b4": _Entry("visual", "visual.autoatt:EfficientNetAutoAttB4"),
    "efficientnet_autoatt_b0": _Entry("visual", "visual.autoatt:EfficientNetAutoAttB0"),
    "efficientnet_autoatt_tiny": _Entry("visual", "visual.autoatt:EfficientNetAutoAttTiny"),
    "mel_cnn": _Entry("audio", "audio.mel_cnn:MelCNN"),
    "mel_cnn_tiny": _Entry(
        "audio",
        "audio.mel_cnn:MelCNN",
        {"channels": (16, 32, 48, 64), "dense": 128, "n_mels": 64, "hop_length": 128},
    ),
    "lipsync": _Entry("lipsync", "lipsync.lipsync:LipSync"),
    "lipsync_tiny": _Entry("lipsync", "lipsync.lipsync:LipSync", {"channels": (12, 24, 32, 48), "dim": 96}),
}


def list_encoders(kind: str | None = None) -> list[str]:
    """Names for `create_encoder`, sorted; of one kind ("visual", "audio", "lipsync") or all."""
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"There is no kind of encoder '{kind}'; the kinds are {', '.join(KINDS)}.")
    return sorted(name for name, entry in _ENTRIES.items() if kind in (None, entry.kind))


def _entry(name: str) -> _Entry:
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = difflib.get_close_matches(name, _ENTRIES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}" if close else f"the names are {', '.join(list_encoders())}"
    raise ConfigError(
        f"There is no encoder '{name}'; {hint}?" if close else f"There is no encoder '{name}'; {hint}."
    )


def create_encoder(name: str, weights: str | Path | None = None, **settings: Any) -> "Encoder":
    """A network by name, with random weights or with those of a `.safetensors` file of this package.

    settings: keyword arguments of the network's class, over the preset of that name. Raises `ConfigError` for
    an unknown name or setting and `WeightsError` for weights that do not fit.
    """
    if weights is not None:
        return load_encoder(weights, name, settings or None)
    entry = _entry(name)
    module, _, attribute = entry.target.partition(":")
    cls = getattr(import_module(f"avdetect.encoders.{module}"), attribute)
    known = [key for key in inspect.signature(cls).parameters if key != "name"]
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"{name} has no setting {', '.join(unknown)}; it knows {', '.join(known)}.")
    return cls(name=name, **{**entry.preset, **settings})


def save_encoder(encoder: "Encoder", path: str | Path) -> None:
    """Write weights, name, settings and preprocess of an encoder to one `.safetensors` file, atomically."""
    from avdetect.weights import write_safetensors

    metadata = {
        "name": encoder.name,
        "settings": encoder.settings,
        "preprocess": encoder.preprocess.to_dict(),
    }
    write_safetensors(encoder.state_dict(), path, metadata)


def load_encoder(
    path: str | Path, name: str | None = None, settings: Mapping[str, Any] | None = None
) -> "Encoder":
    """The encoder that `save_encoder` wrote, in evaluation mode.

    name: what the file is expected to hold; settings: in place of those in the file. Raises `WeightsError`
    where the file holds another encoder, or weights that do not fit the settings.
    """
    from avdetect.weights import load_strict, read_metadata, read_state

    state, metadata = read_state(path), read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if "name" not in metadata:
        raise WeightsError(
            f"{path} was not written by this package's save_encoder; "
            "a published checkpoint is read by the load_published method of its encoder."
        )
    if name is not None and metadata["name"] != name:
        raise WeightsError(f"{path} holds weights of {metadata['name']}, not of {name}.")
    stored = metadata["settings"] if settings is None else settings
    encoder = create_encoder(metadata["name"], **stored)
    load_strict(encoder, state, str(path))
    encoder.preprocess = type(encoder.preprocess).from_dict(metadata["preprocess"])
    return encoder.eval()
