"""Networks under one door: `create_encoder(name)`. Importing this package does not import torch."""

from importlib import import_module
from typing import Any

from avdetect.encoders.registry import (
    EncoderCard,
    create_encoder,
    describe_encoder,
    list_encoders,
    load_encoder,
    mix_encoders,
    save_encoder,
)

_CLASSES = {
    "Encoder": "avdetect.encoders.base",
    "EfficientNetB4": "avdetect.encoders.visual.efficientnet",
    "EfficientNetTiny": "avdetect.encoders.visual.efficientnet",
    "EfficientNetAutoAttB4": "avdetect.encoders.visual.autoatt",
    "EfficientNetAutoAttB0": "avdetect.encoders.visual.autoatt",
    "EfficientNetAutoAttTiny": "avdetect.encoders.visual.autoatt",
    "Meso4": "avdetect.encoders.visual.mesonet",
    "MesoInception4": "avdetect.encoders.visual.mesonet",
    "BaselineCNN": "avdetect.encoders.visual.compact",
    "CustomCNN": "avdetect.encoders.visual.compact",
    "Xception": "avdetect.encoders.visual.xception",
    "XceptionEncoder": "avdetect.encoders.visual.xception",
    "XceptionTiny": "avdetect.encoders.visual.xception",
    "UCF": "avdetect.encoders.visual.ucf",
    "Backbone": "avdetect.encoders.visual.backbones",
    "VGG16": "avdetect.encoders.visual.vgg",
    "Hybrid": "avdetect.encoders.visual.hybrid",
    "SSIM": "avdetect.encoders.visual.ssim",
    "LogMel": "avdetect.encoders.audio.logmel",
    "MelCNN": "avdetect.encoders.audio.mel_cnn",
    "AASIST": "avdetect.encoders.audio.aasist",
    "RawNet2": "avdetect.encoders.audio.rawnet2",
    "LFCC": "avdetect.encoders.audio.lfcc",
    "LfccLcnn": "avdetect.encoders.audio.lfcc_lcnn",
    "LipSync": "avdetect.encoders.lipsync.lipsync",
    "SyncNet": "avdetect.encoders.lipsync.syncnet",
    "SyncResult": "avdetect.encoders.lipsync.sync",
}

__all__ = [
    "EncoderCard",
    "create_encoder",
    "describe_encoder",
    "list_encoders",
    "load_encoder",
    "mix_encoders",
    "save_encoder",
    *_CLASSES,
]


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
