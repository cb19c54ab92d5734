"""FaceForensics++ as its download script lays it out: five methods, two compressions, masks, and DFD."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
SECOND = ("Deepfakes",)  # methods that are there in c40 too
# Of each split other people, as far as eight will do: the name of a video -> its person.
PEOPLE = {
    "train": {"071": 0, "054": 1, "087": 2, "081": 3, "881": 0, "856": 2},
    "val": {"720": 4, "672": 5},
    "test": {"953": 6, "974": 7, "012": 6, "026": 7},
}
SCENES = ("walking_outside_cafe_disgusted", "talking_against_wall", "kitchen_still")


def make(root: Path, media: Miniature) -> None:
    """About a hundred silent videos, 1 MB."""
    (root / "splits").mkdir()
    videos = {name: person for people in PEOPLE.values() for name, person in people.items()}
    pairs = []
    for split, people in PEOPLE.items():
        names = list(people)
        listed = [names[i : i + 2] for i in range(0, len(names), 2)]
        (root / "splits" / f"{split}.json").write_text(json.dumps(listed, indent=2))
        pairs += [pair for a, b in listed for pair in ((a, b), (b, a))]

    def write(place: str, name: str, person: int, kind: str = "genuine") -> None:
        media.video(root / place / f"{name}.mp4", person, kind, seconds=0.8, size=192, sound=False)

    for compression in ("c23", "c40"):
        for name, person in videos.items():
            write(f"original_sequences/youtube/{compression}/videos", name, person)
        for method in METHODS if compression == "c23" else SECOND:
            for target, source in pairs:
                place = f"manipulated_sequences/{method}/{compression}/videos"
                write(place, f"{target}_{source}", videos[target], "face_swap")
    write("manipulated_sequences/Deepfakes/masks/videos", "071_054", 0)
    for number, scene in enumerate(SCENES):
        actor, other = f"{number + 1:02d}", f"{(number + 1) % 3 + 1:02d}"
        write("original_sequences/actors/c23/videos", f"{actor}__{scene}", 5 + number)
        fake = f"{actor}_{other}__{scene}__YR5OVD4{number}"
        write("manipulated_sequences/DeepFakeDetection/c23/videos", fake, 5 + number, "face_swap")
