"""Every miniature is told from all others, and read as its publisher meant it."""

import re

import pandas as pd
import pytest

from avdetect.data.demo.layouts import LAYOUTS, make_layout
from avdetect.data.demo.miniature import Miniature
from avdetect.data.formats import detect_format, list_formats, read_format
from avdetect.errors import DataError
from avdetect.media import probe


def format_of(layout):
    """The format that a layout is one of: `dfdc_test` is of `dfdc`."""
    return max((name for name in list_formats() if layout.startswith(name)), key=len)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_miniature_is_read_as_itself(layout, miniature):
    root = miniature(layout)
    assert detect_format(root) == format_of(layout)
    manifest = read_format("auto", root)  # checked
    table = manifest.table
    assert len(manifest.missing_files()) == 0
    assert table["source"].notna().all()
    labelled = table[table["label"].notna() & table["split"].notna()]
    counts = labelled.groupby(["split", "label"]).size().unstack(fill_value=0)
    assert list(counts) == [0, 1] and (counts >= 2).all(axis=None), counts
    again = read_format(format_of(layout), root)
    pd.testing.assert_frame_equal(again.table, table)
    assert again.notes == manifest.notes


def test_every_format_has_a_miniature():
    assert {format_of(layout) for layout in LAYOUTS} == set(list_formats()) - {"manifest"}


def test_a_manifest_goes_before_the_layout(tmp_path):
    """Whoever wrote a manifest into a folder means it."""
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    assert detect_format(tmp_path) == "folder"
    file = read_format("auto", tmp_path).where("label == 1").write(tmp_path / "manifest.csv")
    assert detect_format(tmp_path) == detect_format(file) == "manifest"
    assert read_format("auto", tmp_path).table["path"].tolist() == ["fake/a.png"]


def test_two_datasets_in_one_folder_are_not_guessed_at(tmp_path):
    for folder in ("training_real", "training_fake"):
        (tmp_path / folder).mkdir()
    protocol = tmp_path / "ASVspoof2019.LA.cm.train.trn.txt"
    protocol.write_text("LA_0079 LA_T_1 - - bonafide\n")
    with pytest.raises(DataError, match=re.escape("fits several layouts (asvspoof2019_la, ciplab)")):
        detect_format(tmp_path)


def test_what_nothing_fits_is_told_with_all_layouts(tmp_path):
    with pytest.raises(DataError, match="has none of the layouts") as caught:
        detect_format(tmp_path)
    assert all(f"\n{name}: " in str(caught.value) for name in list_formats())


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return Miniature(tmp_path_factory.mktemp("bank"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_clip_of_a_drawn_miniature_can_be_opened(layout, media, tmp_path):
    root = make_layout(layout, tmp_path / layout, media=media)
    manifest = read_format("auto", root)
    kinds = {"video": "has_video", "audio": "has_audio", "image": "is_image"}
    for row in manifest.table.to_dict("records"):
        info = probe(manifest.file_of(row))
        assert getattr(info, kinds[row["kind"]]), row["path"]
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    assert size < 12e6
