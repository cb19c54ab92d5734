"""Score files of other people: the formats in which ASVspoof and AV-Deepfake1M exchange scores.

| layout | line | higher means | value column here |
|---|---|---|---|
| `asvspoof` | `utterance score` or `utterance attack key score` | bona fide | `score_logit`, negated |
| `avdeepfake1m` | `file;score` | fake | `score` |

Numbers are written with all their digits, so that what is read back is what was written. A score table is
that of `protocols.evaluate_scores`: `key`, `score` = P(fake), `score_logit`, and as far as known `label`,
`method`, `utterance`, `file`.
"""

from __future__ import annotations

import gzip
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from avdetect.errors import ConfigError, DataError

LABEL_OF_KEY = {"bonafide": 0, "spoof": 1}
KEY_OF_LABEL = {label: key for key, label in LABEL_OF_KEY.items()}
FILE_OF_KEY = re.compile(r"(?:^|/)(?:train|val|test[AB]?)/(.+)$")


def to_asvspoof(table: pd.DataFrame, column: str = "score_logit", keys: bool = False) -> str:
    """Text of an ASVspoof score file, a line per clip: `utterance score`, higher = more bona fide.

    `column`: what is written, negated (ours rises with fake). `keys` writes `utterance attack key score` as
    in 2019, from the columns `method` and `label`. The utterance is the column `utterance` or, without one,
    the name of the clip's file. Raises DataError for clips without a score, and for names that a reader of
    the file could not tell apart.
    """
    names = table["utterance"] if "utterance" in table else _column(table, "key").map(_stem)
    names = _names(names, r"\s", "blanks")
    numbers = [repr(value) for value in _bona_fide_scores(_scores(table, column, names)).tolist()]
    if not keys:
        return "".join(f"{name} {number}\n" for name, number in zip(names, numbers, strict=True))
    label = pd.to_numeric(_column(table, "label"))
    if not label.isin([0, 1]).all():
        raise DataError(
            f"{int((~label.isin([0, 1])).sum())} clips have no label: write the score file without keys."
        )
    attacks = table["method"] if "method" in table else pd.Series(pd.NA, index=table.index)
    attacks = attacks.astype("string").fillna("-").str.replace(r"\s+", "_", regex=True)
    rows = zip(names, attacks, label.map(KEY_OF_LABEL), numbers, strict=True)
    return "".join(" ".join(row) + "\n" for row in rows)


def from_asvspoof(text: str, name: str = "the score file", column: str = "score_logit") -> pd.DataFrame:
    """Score table of an ASVspoof score file: `key` and `utterance` (the same), and `column`.

    The score is negated, so that it rises with fake as everywhere here. With four fields a line also `label`
    and `method` (missing for bona fide). Raises DataError naming the first damaged line.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in (2, 4) or (rows and len(fields) != len(rows[0])):
            raise _damaged(name, number, line, "`utterance score` or `utterance attack key score` throughout")
        if len(fields) == 4 and fields[2] not in LABEL_OF_KEY:
            raise _damaged(name, number, line, "the key bonafide or spoof in the third field")
        fields[-1] = _number(fields[-1], name, number, line)
        rows.append(fields)
    table = pd.DataFrame({"key": [row[0] for row in rows], "utterance": [row[0] for row in rows]})
    _once(table["key"], name)
    if rows and len(rows[0]) == 4:
        table["label"] = [LABEL_OF_KEY[row[2]] for row in rows]
        attacks = pd.Series([row[1] for row in rows], dtype="string")
        table["method"] = attacks.mask(attacks.isin(["-", "bonafide"]))
    table[column] = _bona_fide_scores(np.array([row[-1] for row in rows], dtype=np.float64))
    return table


def _bona_fide_scores(values: np.ndarray) -> np.ndarray:
    """The one place where polarity turns: between ours (high = fake) and ASVspoof's (high = bona fide)."""
    return -values


def to_avdeepfake1m(table: pd.DataFrame, column: str = "score") -> str:
    """Text of a prediction file of AV-Deepfake1M, a line per clip: `file;score`, higher = fake.

    `file` is relative to the folder of the split, as in the publisher's lists: the column `file`, or what
    follows `train/`, `val/` or `test/` in the key. Raises DataError as `to_asvspoof` does.
    """
    files = table["file"] if "file" in table else _column(table, "key").map(_published_file)
    files = _names(files, r"[;\n\r]", "semicolons or line ends")
    numbers = _scores(table, column, files).tolist()
    return "".join(f"{file};{number!r}\n" for file, number in zip(files, numbers, strict=True))


def from_avdeepfake1m(text: str, name: str = "the score file", column: str = "score") -> pd.DataFrame:
    """Score table of a prediction file: `key` and `file` (the same), and `column`; DataError if damaged."""
    files, scores = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        file, separator, score = line.rpartition(";")
        if not separator or not file.strip() or ";" in file:
            raise _damaged(name, number, line, "`file;score`")
        files.append(file.strip())
        scores.append(_number(score.strip(), name, number, line))
    table = pd.DataFrame({"key": files, "file": files, column: np.array(scores, dtype=np.float64)})
    _once(table["key"], name)
    return table


def read_asv_scores(path: str | Path) -> dict[str, np.ndarray]:
    """Speaker-verification scores of ASVspoof 2019, lines `key claim score`, high = same speaker.

    `target`, `nontarget`, `spoof` -> (N,) float64, as `tandem.min_tdcf_2019` takes them.
    """
    scores: dict[str, list[float]] = {"target": [], "nontarget": [], "spoof": []}
    for number, line in enumerate(_text(Path(path)).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[1] not in scores:
            raise _damaged(str(path), number, line, f"`key {'|'.join(scores)} score`")
        scores[fields[1]].append(_number(fields[2], str(path), number, line))
    return {claim: np.array(values, dtype=np.float64) for claim, values in scores.items()}


@dataclass(frozen=True)
class ScoreLayout:
    """How one kind of score file is written and read; `column`: which of our values it holds."""

    column: str
    to_text: Callable[..., str]
    from_text: Callable[..., pd.DataFrame]


LAYOUTS = {
    "asvspoof": ScoreLayout("score_logit", to_asvspoof, from_asvspoof),
    "avdeepfake1m": ScoreLayout("score", to_avdeepfake1m, from_avdeepfake1m),
}


def write_scorefile(
    table: pd.DataFrame, path: str | Path, layout: str, column: str | None = None, **options: bool
) -> Path:
    """Write a score file (gzipped where the name ends with .gz), atomically.

    `layout`: asvspoof or avdeepfake1m; `column`: what is written, by default that of the layout; `options`:
    those of the layout's `to_…`.
    """
    path, chosen = Path(path), _layout(layout)
    data = chosen.to_text(table, column or chosen.column, **options).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    os.replace(part, path)
    return path


def read_scorefile(path: str | Path, layout: str, column: str | None = None) -> pd.DataFrame:
    """Score table of a score file, gzipped or not; `column`: where its numbers go."""
    chosen = _layout(layout)
    return chosen.from_text(_text(Path(path)), str(path), column or chosen.column)


def _layout(name: str) -> ScoreLayout:
    if name not in LAYOUTS:
        raise ConfigError(f"unknown layout of score files {name!r}: one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a score file: {error}") from error


def _column(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        raise DataError(f"The score table has no column {column!r}, only {', '.join(map(str, table))}.")
    return table[column]


def _stem(key: str) -> str:
    return key.rpartition("/")[2].rpartition(".")[0] or key.rpartition("/")[2]


def _published_file(key: str) -> str:
    found = FILE_OF_KEY.search(key)
    if found is None:
        raise DataError(
            f"{key!r} lies in no folder train, val or test of AV-Deepfake1M: add a column `file` with the "
            "publisher's name of each clip."
        )
    return found.group(1)


def _names(names: pd.Series, forbidden: str, what: str) -> list[str]:
    names = names.astype("string")
    bad = names.isna() | (names == "") | names.str.contains(forbidden, regex=True).fillna(True)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} clips have no name or one with {what}, such as {names[bad].iloc[0]!r}: the "
            "score file could not be read back."
        )
    _once(names, "the score table")
    return names.tolist()


def _scores(table: pd.DataFrame, column: str, names: list[str]) -> np.ndarray:
    values = pd.to_numeric(_column(table, column), errors="coerce").astype("Float64")
    values = values.to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(values)} clips have no finite {column}, such as {names[bad[0]]!r}: a score "
            "file has a number for every clip, so leave them out of the table and say how many they were."
        )
    return values


def _once(names: pd.Series, where: str) -> None:
    repeated = names[names.duplicated()]
    if len(repeated):
        raise DataError(f"{where} has {len(repeated)} clips twice, such as {repeated.iloc[0]!r}.")


def _number(text: str, name: str, number: int, line: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _damaged(name, number, line, "a finite number in the last field")
    return value


def _damaged(name: str, number: int, line: str, expected: str) -> DataError:
    return DataError(f"{name} line {number}: expected {expected}, found {line.strip()!r}")
