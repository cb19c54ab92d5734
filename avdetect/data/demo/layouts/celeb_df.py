"""Celeb-DF v2: three folders and the list of test videos, whose people are in the other videos too."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.miniature import Miniature

PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))
ACROSS = ((1, 2), (5, 6))  # join the pairs: with whichever people val is made of, such fakes fall between
# As the publisher writes it: no header, 1 = real.
TEST = """\
1 YouTube-real/00006.mp4
1 YouTube-real/00007.mp4
1 Celeb-real/id0_0000.mp4
1 Celeb-real/id3_0001.mp4
1 Celeb-real/id6_0000.mp4
0 Celeb-synthesis/id0_id1_0000.mp4
0 Celeb-synthesis/id3_id2_0001.mp4
0 Celeb-synthesis/id4_id5_0001.mp4
0 Celeb-synthesis/id1_id2_0000.mp4
"""


def make(root: Path, media: Miniature) -> None:
    """Forty-two silent videos, half a MB."""
    for person in range(8):
        for take in range(2):
            video(root, media, f"Celeb-real/id{person}_{take:04d}", person)
        video(root, media, f"YouTube-real/{person:05d}", person)
    for target, source in (*PAIRS, *((b, a) for a, b in PAIRS)):
        for take in range(2):
            video(root, media, f"Celeb-synthesis/id{target}_id{source}_{take:04d}", target, "face_swap")
    for target, source in ACROSS:
        video(root, media, f"Celeb-synthesis/id{target}_id{source}_0000", target, "face_swap")
    (root / "List_of_testing_videos.txt").write_text(TEST)


def video(root: Path, media: Miniature, name: str, person: int, kind: str = "genuine") -> None:
    """Write one of the videos."""
    media.video(root / f"{name}.mp4", person, kind, seconds=0.8, size=192, sound=False)
