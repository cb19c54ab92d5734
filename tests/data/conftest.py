"""Miniatures of datasets in outline: laid out as they are, with next to nothing in the files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avdetect.data.demo.layouts import make_layout
from avdetect.data.demo.miniature import Miniature


class Outline(Miniature):
    """Writes files of the right names, all different: pictures of noise, a few bytes instead of recordings."""

    def video(self, path, subject, kind="genuine", seconds=1.2, **options):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{kind} {self._next(subject, 'video', kind)} of {subject}")
        return path

    def speech(self, path, subject, fake, seconds=1.5, **options):
        return self.video(path, subject, f"voice {fake}")

    def image(self, path, subject, fake, size=256):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([subject, int(fake), self._next(subject, "image", fake)])
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        return path

    def images(self, folder, subject, fake, count, size=224, start=0):
        for number in range(start, start + count):
            self.image(Path(folder, f"{number:03d}.png"), subject, fake)
        return Path(folder)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """Function of a layout's name: folder of its miniature in outline, written once, not to be changed."""
    written = {}

    def folder(layout):
        if layout not in written:
            written[layout] = make_layout(layout, tmp_path_factory.mktemp("sets") / layout, media=Outline())
        return written[layout]

    return folder
