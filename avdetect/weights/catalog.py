"""Published checkpoints: where they are, what they hold, and under which terms.

Names are ENCODER.TAG, as timm writes them: `meso4.df`, `xception.ispl_ffpp`. The text stands in catalog.toml.
"""

import difflib
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from avdetect.errors import WeightsError

CATALOG_FILE = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True)
class Published:
    """One published checkpoint; `create_encoder(encoder, weights=name)` loads it from the cache."""

    name: str
    encoder: str  # for create_encoder
    publisher: str
    url: str
    licence: str  # SPDX identifier where there is one
    terms: str  # what the licence means for a user, in sentences
    restricted: bool  # the terms limit use: they are shown before a download
    training_data: str
    score: str  # as published
    score_source: str  # empty where no score was published
    polarity: str  # what the published output means, and what load_published makes of it
    sha256: str | None = None  # None: no hash is known, so the file is only imported, never downloaded
    sha256_source: str = "none is known"
    size: int | None = None  # bytes, where known

    @property
    def filename(self) -> str:
        """Name of the file in the cache: the catalogue's name with the publisher's suffix."""
        return self.name + PurePosixPath(urlsplit(self.url).path).suffix

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return asdict(self)


@cache
def _read(path: Path) -> dict[str, Published]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = {}
    for name, own in content["checkpoints"].items():
        values = {
            **content["publishers"][own["publisher"]],
            **{k: v for k, v in own.items() if k != "publisher"},
        }
        entries[name] = Published(name=name, encoder=name.rpartition(".")[0], **values)
    return entries


def list_published() -> list[Published]:
    """All entries, in the order of the catalogue."""
    return list(_read(CATALOG_FILE).values())


def find_published(name: str) -> Published:
    """The entry of that name; raises `WeightsError` with close names for an unknown one."""
    entries = _read(CATALOG_FILE)
    if name in entries:
        return entries[name]
    close = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
    # a bare encoder or tag stands for all entries that have it
    close += [known for known in entries if name in known.rsplit(".", 1) and known not in close]
    hint = f"did you mean {' or '.join(close)}?" if close else "`avdetect weights list` shows the names."
    raise WeightsError(f"There is no published checkpoint '{name}' in the catalogue; {hint}")
