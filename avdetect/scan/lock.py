"""One run at a time writes into an output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from avdetect.errors import ConfigError


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Make the folder and hold it; ConfigError where another process does. A killed one leaves no lock behind."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"another evaluation is writing into {out}: wait for it, or name another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
