"""Many files: judged one after the other, or measured against what is known of them.

A file that fails never costs the answer to another.
"""

from avdetect.scan.files import predict_files

__all__ = ["predict_files"]
