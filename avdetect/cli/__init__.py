"""The command line: `avdetect …`."""

from avdetect.cli.program import app, expand, main

__all__ = ["app", "expand", "main"]
