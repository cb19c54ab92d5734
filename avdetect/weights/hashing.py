"""The hash of a file, without torch: listing and downloading weights must be quick."""

import hashlib
from pathlib import Path


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
