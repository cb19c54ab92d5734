"""Many files, one after the other: a file that fails never costs the answer to another."""

from avdetect.scan.files import predict_files

__all__ = ["predict_files"]
