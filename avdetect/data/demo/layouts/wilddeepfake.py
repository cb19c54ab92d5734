"""WildDeepfake: archives of face sequences, named by the number of the frame in the source video.

The training parts and the fake test part are packed, as published; the genuine test part is unpacked.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

FRAMES, STEP = 5, 10
# part -> (shards, person of the first shard)
PARTS = {"real_train": (4, 0), "fake_train": (4, 0), "real_test": (2, 4), "fake_test": (2, 4)}
UNPACKED = "real_test"


def make(root: Path, media: Miniature) -> None:
    """Twenty-four sequences of five pictures, 7 MB."""
    for part, (shards, person) in PARTS.items():
        kind = part.partition("_")[0]
        for shard in range(shards):
            with tempfile.TemporaryDirectory() as folder:
                for sequence in range(2):
                    place = f"{shard}/{kind}/{3 + 9 * sequence}"
                    drawn = media.images(Path(folder, "drawn"), person + shard, kind == "fake", FRAMES)
                    # Numbers are not padded: 96.png comes before 106.png, but after it in the alphabet.
                    _place(drawn, Path(folder, place), first=96 - STEP * sequence)
                if part == UNPACKED:
                    _copy(Path(folder, str(shard)), root / part / str(shard))
                    continue
                (root / part).mkdir(exist_ok=True)
                _pack(Path(folder, str(shard)), root / part / f"{shard}.tar.gz")


def _place(drawn: Path, folder: Path, first: int) -> None:
    folder.mkdir(parents=True)
    for number, file in enumerate(sorted(drawn.iterdir())):
        file.rename(folder / f"{first + STEP * number}.png")


def _copy(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*.png")):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())


def _pack(folder: Path, archive: Path) -> None:
    """Without times and owners, so that the same miniature is the same file."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
        return member

    with (
        open(archive, "wb") as stream,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.add(folder, folder.name, filter=plain)
