"""What happens to crops and waveforms between a prepared clip and an encoder."""

from avdetect.transforms.audio import AudioAugment, AudioPreprocess
from avdetect.transforms.lipsync import LipSyncAugment, LipSyncPreprocess
from avdetect.transforms.pairs import PairPreprocess
from avdetect.transforms.visual import IMAGENET_MEAN, IMAGENET_STD, VisualAugment, VisualPreprocess

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AudioAugment",
    "AudioPreprocess",
    "LipSyncAugment",
    "LipSyncPreprocess",
    "PairPreprocess",
    "VisualAugment",
    "VisualPreprocess",
]
