"""Networks under one door: `create_encoder(name)`. Importing this package does not import torch."""

from importlib import import_module
from typing import Any

from avdetect.encoders.registry import (
    EncoderCard,
    create_encoder,
    describe_encoder,
    list_encoders,
    load_encoder,
    save_encoder,
)

_CLASSES = {
    "Encoder": "avdetect.encoders.base",
    "EfficientNetAutoAttB4": "avdetect.encoders.visual.autoatt",
    "EfficientNetAutoAttB0": "avdetect.encoders.visual.autoatt",
    "EfficientNetAutoAttTiny": "avdetect.encoders.visual.autoatt",
    "LogMel": "avdetect.encoders.audio.logmel",
    "MelCNN": "avdetect.encoders.audio.mel_cnn",
    "LipSync": "avdetect.encoders.lipsync.lipsync",
    "SyncResult": "avdetect.encoders.lipsync.sync",
}

__all__ = [
    "EncoderCard",
    "create_encoder",
    "describe_encoder",
    "list_encoders",
    "load_encoder",
    "save_encoder",
    *_CLASSES,
]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
