"""What the registry knows of a network before its class is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A name for `create_encoder`: where its class stands, and what its card says."""

    kind: str  # "visual", "audio" or "lipsync"
    target: str  # "module:Class" below avdetect.encoders
    paper: str  # authors, title, place and year of what the network was published in
    changes: str  # what differs from the publication, and why; "none" where nothing does
    preset: Mapping[str, Any] = dataclass_field(default_factory=dict)  # settings that make this variant
