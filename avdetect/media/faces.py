"""Face detection behind one small protocol, and MTCNN of facenet-pytorch as its implementation."""

from __future__ import annotations

import functools
import logging

import numpy as np
import torch
from facenet_pytorch import MTCNN

from avdetect.media.tracks import Detections, FaceDetector

__all__ = ["Detections", "FaceDetector", "MTCNNDetector", "default_detector"]

log = logging.getLogger(__name__)


class MTCNNDetector:
    """MTCNN (Zhang et al. 2016, arXiv:1604.02878) of facenet-pytorch 2.5.3; its weights are in that package.

    `min_side`: the smallest face searched, pixels of the reduced frame. MTCNN's cost lies in its finest
    scale: on 1080p frames reduced to 640 pixels one CPU core needs 68 ms a frame at 20 pixels and 41 ms at
    30. `thresholds` of the three stages; 0.7 in the first (0.6 in the package)
    spares a quarter of the time.
    """

    def __init__(
        self,
        device: str = "cpu",
        min_side: int = 24,
        thresholds: tuple[float, float, float] = (0.7, 0.7, 0.7),
    ):
        self.min_side = min_side
        self._mtcnn = MTCNN(
            keep_all=True, thresholds=list(thresholds), post_process=False, device=torch.device(device)
        ).eval()

    def detect(self, images: list[np.ndarray], min_face_px: float) -> list[Detections]:
        """Faces of RGB `images` (H, W, 3) uint8 of one size, in pixels of those images.

        Faces under `min_face_px` (or `self.min_side`, if larger) are not searched.
        """
        if not images:
            return []
        smallest = min(images[0].shape[:2])
        if smallest < 12:  # the receptive field of the first stage
            return [Detections.none() for _ in images]
        self._mtcnn.min_face_size = min(max(min_face_px, self.min_side), smallest)
        try:
            return self._detect(images)
        except (RuntimeError, IndexError, ValueError) as error:
            # facenet-pytorch drops candidates wholly outside the frame from one list and not from the other.
            if len(images) > 1:
                return [self.detect([image], min_face_px)[0] for image in images]
            log.warning("face detection failed on one frame, taken as without faces: %s", error)
            return [Detections.none()]

    def _detect(self, images: list[np.ndarray]) -> list[Detections]:
        # Hundreds of tiny operations gain little from several threads, and threads that wait for one another
        # while video decoding or another process holds a core make a frame ten times slower.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                boxes, probs, landmarks = self._mtcnn.detect(np.stack(images), landmarks=True)
        finally:
            torch.set_num_threads(threads)
        return [
            Detections.none()
            if box is None
            else Detections(
                np.asarray(box, np.float32).reshape(-1, 4),
                np.asarray(prob, np.float32).reshape(-1),
                np.asarray(points, np.float32).reshape(-1, 5, 2),
            )
            for box, prob, points in zip(boxes, probs, landmarks, strict=True)
        ]


@functools.cache
def default_detector() -> MTCNNDetector:
    """The detector that `read_clip` uses when none is given; made once per process."""
    return MTCNNDetector()
