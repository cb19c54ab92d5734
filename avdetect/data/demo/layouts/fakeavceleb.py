"""Miniature of FakeAVCeleb v1.2: eight people of two groups, each in genuine clips and all kinds of fakes."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.miniature import Miniature

PEOPLE = ("id00076", "id00166", "id00173", "id00366", "id00100", "id00262", "id00272", "id00381")
GROUPS = (("African", "men"), ("Caucasian (American)", "women"))
# kind of Miniature.video, category, type, method, end of the file's name, whether a second person is named
FAKES = (
    ("voice_resynthesis", "B", "RealVideo-FakeAudio", "rtvc", "_fake", False),
    ("face_swap", "C", "FakeVideo-RealAudio", "fsgan", "_2", False),
    ("both", "D", "FakeVideo-FakeAudio", "fsgan-wav2lip", "_2_{own}_wavtolip", False),
    ("both", "D", "FakeVideo-FakeAudio", "wav2lip", "_{other}_wavtolip", True),
)
GENUINE = 3  # clips of each person, so that a person alone makes a test split


def make(root: Path, media: Miniature) -> None:
    """Write folders and `meta_data.csv`, with its nameless last column and a file that is listed twice."""
    lines = ["source,target1,target2,method,category,type,race,gender,path,"]
    for subject, person in enumerate(PEOPLE):
        race, gender = GROUPS[subject // 4]
        other = PEOPLE[subject // 4 * 4 + (subject + 1) % 4]

        def add(kind, fields, name, subject=subject, person=person, group=(race, gender)):
            target, method, category, type_ = fields
            folder = f"{type_}/{group[0]}/{group[1]}/{person}"
            media.video(root / folder / name, subject, kind, seconds=1.0, size=192)
            lines.append(
                f"{person},{target},-,{method},{category},{type_},{group[0]},{group[1]},{name},"
                f"FakeAVCeleb/{folder}"
            )

        for number in range(GENUINE):
            add("genuine", ("-", "real", "A", "RealVideo-RealAudio"), f"{109 + number:05d}.mp4")
        for kind, category, type_, method, end, named in FAKES:
            target = other if named else "-"
            name = f"00109{end.format(own=person, other=other)}.mp4"
            add(kind, (target, method, category, type_), name)
    lines.append(lines[-1].replace(",wav2lip,", ",faceswap-wav2lip,"))
    (root / "meta_data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
