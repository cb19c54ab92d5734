"""Training: one loop for all networks, and the task of each stage."""

from avdetect.training.loop import FitResult, FitSettings, Task, fit
from avdetect.training.tasks import EncoderTask, FusionTask, LipSyncTask

__all__ = ["EncoderTask", "FitResult", "FitSettings", "FusionTask", "LipSyncTask", "Task", "fit"]
