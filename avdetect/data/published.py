"""How many genuine and fake clips the publishers of the known datasets state: what readers and checks compare
a manifest with."""

from __future__ import annotations

from dataclasses import dataclass, field

Counts = tuple[int, int]  # genuine, fake


@dataclass(frozen=True)
class Published:
    """`splits` holds the counts of official splits, `total` those of the whole labelled dataset.

    `exact`: whether the publisher's index files give them, or they depend on the release that one has.
    `methods`: those whose fakes are counted one by one, and the genuine clips once in every compression.
    `phase`: the rows that they are about, by the column of that name.
    """

    splits: dict[str, Counts] = field(default_factory=dict)
    total: Counts | None = None
    exact: bool = True
    methods: tuple[str, ...] = ()
    phase: str | None = None


# by the name in a manifest's column `dataset`
PUBLISHED: dict[str, Published] = {
    "ASVspoof2019 LA": Published({"train": (2_580, 22_800), "val": (2_548, 22_296), "test": (7_355, 63_882)}),
    "ASVspoof2021 LA": Published({"test": (14_816, 133_360)}, phase="eval"),
    "ASVspoof2021 DF": Published({"test": (14_869, 519_059)}, phase="eval"),
    "DFDC": Published({"test": (2_500, 2_500)}),
    "DFDC preview": Published(total=(1_131, 4_119)),
    "FaceForensics++": Published(
        {"train": (720, 720), "val": (140, 140), "test": (140, 140)},
        methods=("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter"),
    ),
    "DeepFakeDetection": Published(total=(363, 3_068)),
    "Celeb-DF v1": Published(total=(408, 795)),
    "Celeb-DF v2": Published({"test": (178, 340)}, total=(890, 5_639)),
    "WildDeepfake": Published(total=(3_805, 3_509), exact=False),
    "FakeAVCeleb": Published(total=(500, 21_044)),
    "LAV-DF": Published(total=(36_431, 99_873)),
    "AV-Deepfake1M": Published(total=(286_721, 860_039), exact=False),
    "AI-Face": Published(total=(400_885, 1_245_660), exact=False),
    "140k Real and Fake Faces": Published(
        {"train": (50_000, 50_000), "val": (10_000, 10_000), "test": (10_000, 10_000)}, exact=False
    ),
    "Real and Fake Face Detection": Published(total=(1_081, 960)),
}
