"""What all pages of the package share: templates whose text is escaped, and files that are replaced whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from avdetect.inference.verdict import printable


def page_environment(*folders: Path) -> Environment:
    """Templates of these folders: text is escaped and made printable, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _safe(value: Any) -> Any:
    # Markup (what macros return) is a subclass of str and already safe.
    return printable(value) if type(value) is str else value


def replace_text(path: Path, text: str) -> None:
    """Write a file; one that is there is replaced by the complete one only. Raises OSError."""
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
