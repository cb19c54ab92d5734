"""Index files of datasets: what is wrong with their encoding, their syntax or their shape is one sentence."""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from avdetect.errors import DataError


def read_json(file: Path, kind: type) -> Any:
    """Content of a JSON file, which is a `kind` (`dict` or `list`). Raises DataError.

    A key that is twice in one object is an error too: of two entries about a clip the first would be lost.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # ValueError: also text that is no UTF-8
        raise DataError(f"{file} is not valid JSON ({error}): download it again") from error
    if not isinstance(content, kind):
        what = "object with an entry for each clip" if kind is dict else "list of clips"
        raise DataError(f"{file} is no {what}: is it the right file?")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name!r} is there twice")
    return entries


def read_table(file: Path, **options: Any) -> pd.DataFrame:
    """A CSV file in UTF-8 by `pandas.read_csv` (`options` are its own). Raises DataError.

    A line with more fields than the header is an error: pandas would take the first column for row numbers
    and move every other one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(file, encoding="utf-8-sig", index_col=False, low_memory=False, **options)
    except pd.errors.ParserWarning as error:
        raise DataError(f"{file}: its lines have more fields than its header: correct one of them") from error
    except ValueError as error:  # pandas' parse errors, and text that is no UTF-8
        raise DataError(f"{file} cannot be read as CSV ({str(error).strip()}): correct it") from error
    twice = [column for column in table if f"{column}.1" in table]  # so pandas names the second
    if twice:
        raise DataError(f"{file} has the column {twice[0]} twice: remove one of them")
    return table


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text without surrounding space of every line that has any; gunzipped where its name
    ends in `.gz`. Raises DataError."""
    packed = file.suffix == ".gz"
    try:
        with (gzip.open if packed else open)(file, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason}): download it again") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file} is no whole gzip file ({error}): download it again") from error
