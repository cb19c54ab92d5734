"""From a file to a verdict."""

from avdetect.inference.bundle import Bundle, clip_settings_of, find_bundle, load_bundle, save_bundle
from avdetect.inference.detector import Analysis, Detector
from avdetect.inference.verdict import Verdict

__all__ = [
    "Analysis",
    "Bundle",
    "Detector",
    "Verdict",
    "clip_settings_of",
    "find_bundle",
    "load_bundle",
    "save_bundle",
]
