"""The test split stays closed until a final test opens it: training and selection must never see it.

    prepared.rows("visual", "test")          # DataError: nobody may look there while anything is still chosen
    with open_test_data():
        prepared.rows("visual", "test")      # the final test, after everything was chosen

Whoever hands out rows of a split asks `check_split`; whoever trains or chooses asks `check_closed`, so that
the door is not held open around training either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from avdetect.errors import DataError

TEST = "test"
_opened: ContextVar[bool] = ContextVar("test_data_open", default=False)


@contextmanager
def open_test_data() -> Iterator[None]:
    """Rows of the test split are handed out inside; for a final test, once everything is chosen.

    It holds for the thread that opened it. As a decorator it opens the test split for a whole function.
    """
    token = _opened.set(True)
    try:
        yield
    finally:
        _opened.reset(token)


def check_split(splits: Iterable[Any]) -> None:
    """Raise DataError where the splits of rows about to be handed out hold `test` and nobody opened it."""
    if not _opened.get() and any(split == TEST for split in splits if isinstance(split, str)):
        raise DataError(
            "the test split was asked for during training or selection: these may see train and val only, so "
            "choose on val; a final test opens it with avdetect.data.guard.open_test_data()"
        )


def check_closed(what: str) -> None:
    """Raise DataError where `what` (training, calibration) begins while the test split is open."""
    if _opened.get():
        raise DataError(
            f"{what} was started while the test split is open: choose everything first, then open it"
        )
