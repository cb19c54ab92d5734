"""What several commands say and read in the same way."""

from __future__ import annotations

BUNDLE_HELP = (
    "Detector: a folder, `builtin`, or `latest` below ./runs (default: $AVDETECT_BUNDLE, else `builtin`)."
)


def listed(text: str) -> list[str]:
    """`a, b` -> ["a", "b"]."""
    return [part for part in map(str.strip, text.split(",")) if part]
