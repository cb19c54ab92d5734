"""Training: one loop for all networks, and the task of each stage."""

from avdetect.training.adversarial import Adversarial
from avdetect.training.loop import FitResult, Task, fit
from avdetect.training.losses import BinaryLoss
from avdetect.training.settings import FitSettings
from avdetect.training.siamese import TripletTask
from avdetect.training.tasks import EncoderTask, FusionTask, LipSyncTask

__all__ = [
    "Adversarial",
    "BinaryLoss",
    "EncoderTask",
    "FitResult",
    "FitSettings",
    "FusionTask",
    "LipSyncTask",
    "Task",
    "TripletTask",
    "fit",
]
