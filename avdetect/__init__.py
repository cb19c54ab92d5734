"""avdetect: tells whether a video, an image or a voice recording is genuine or a deepfake.

from avdetect import Detector
verdict = Detector.load().predict("video.mp4")
"""

__version__ = "0.1.0"
__all__ = ["Detector", "__version__"]


def __getattr__(name: str):
    # `Detector` pulls in torch (seconds): only who asks for it pays for it.
    if name == "Detector":
        from avdetect.inference.detector import Detector

        return Detector
    raise AttributeError(f"module 'avdetect' has no attribute {name!r}")
