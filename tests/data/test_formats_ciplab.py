import shutil

import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

FAKES = ("easy_1_1110", "mid_2_0011", "hard_3_1111", "EASY_4_0000")


@pytest.fixture
def root(tmp_path):
    base = tmp_path / "real_and_fake_face"
    for k in range(20):
        for folder, name in (("training_real", f"real_{k:05d}"), ("training_fake", f"mid_{k + 10}_0100")):
            file = base / folder / f"{name}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{folder} {k}".encode())
    for name in FAKES:
        (base / "training_fake" / f"{name}.jpg").write_bytes(name.encode())
    return tmp_path


def test_names_tell_difficulty_and_parts(root):
    assert detect_format(root) == detect_format(root / "real_and_fake_face") == "ciplab"
    manifest = read_format("auto", root)
    table = manifest.table.assign(name=manifest.table["path"].str.extract(r"([^/]+)\.jpg$")[0]).set_index(
        "name"
    )
    parts = ["difficulty", "left_eye", "right_eye", "nose", "mouth"]
    assert table.loc["easy_1_1110", parts].tolist() == ["easy", 1, 1, 1, 0]
    assert table.loc["mid_2_0011", parts].tolist() == ["mid", 0, 0, 1, 1]
    assert table.loc["EASY_4_0000", "difficulty"] == "easy"
    assert table.loc["real_00003", parts].isna().all()
    assert table.loc["real_00003", "label"] == 0 and table.loc["hard_3_1111", "label"] == 1
    assert table["label"].value_counts().to_dict() == {1: 24, 0: 20}
    assert "20 real and 24 fake pictures, where the publisher has 1081 and 960" in manifest.notes[-1]


def test_the_columns_survive_a_manifest_file(root):
    manifest = read_format("ciplab", root)
    file = manifest.write(root / "manifest.csv")
    again = read_format("manifest", file).table
    assert again["left_eye"].dropna().astype(int).tolist() == manifest.table["left_eye"].dropna().tolist()


def test_split_is_drawn_80_10_10_by_seed(root):
    table = read_format("ciplab", root).table
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts["train", 0] == 16 and counts["val", 0] == counts["test", 0] == 2
    assert min(counts.values()) >= 2
    assert read_format("ciplab", root, seed=1).table["split"].tolist() != table["split"].tolist()


@pytest.mark.parametrize("link", [False, True])
def test_the_second_copy_of_the_archive_is_listed_once(root, link):
    alone = read_format("ciplab", root)
    copy = root / "real_and_fake_face_detection" / "real_and_fake_face"
    if link:
        copy.parent.mkdir()
        copy.symlink_to(root / "real_and_fake_face", target_is_directory=True)
    else:
        shutil.copytree(root / "real_and_fake_face", copy)
    both = read_format("auto", root)
    assert both.table["path"].tolist() == alone.table["path"].tolist()
    assert "44 pictures are there twice" in both.notes[1]
    if not link:  # the same name with other content is another picture
        (copy / "training_real" / "real_00000.jpg").write_bytes(b"another one")
        assert len(read_format("ciplab", root)) == len(alone) + 1


def test_odd_names_are_kept_and_said_and_nothing_is_an_error(root):
    (root / "real_and_fake_face" / "training_fake" / "no_name.jpg").write_bytes(b"x")
    assert any("1 fakes tell no difficulty" in note for note in read_format("ciplab", root).notes)
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="is not the CIPLAB set"):
        read_format("ciplab", root / "empty")
