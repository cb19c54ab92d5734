"""Weights on disk: safe reading and writing. Downloads belong to the store."""

from avdetect.weights.files import (
    load_strict,
    read_metadata,
    read_state,
    sha256_file,
    write_safetensors,
)

__all__ = ["load_strict", "read_metadata", "read_state", "sha256_file", "write_safetensors"]
