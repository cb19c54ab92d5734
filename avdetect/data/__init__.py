"""Datasets: one table of clips (`Manifest`), extracted once, served to training.

`avdetect.data.prepare.prepare` and the torch datasets of `avdetect.data.loaders` come from their modules.
"""

from avdetect.data.formats import detect_format, list_formats, read_format
from avdetect.data.manifest import Manifest, require_both_classes, stage_label
from avdetect.data.prepare import PreparedSet
from avdetect.data.splits import split_by_source

__all__ = [
    "Manifest",
    "PreparedSet",
    "detect_format",
    "list_formats",
    "read_format",
    "require_both_classes",
    "split_by_source",
    "stage_label",
]
