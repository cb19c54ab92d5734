import shutil
from pathlib import Path

import pytest

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import read_format
from avdetect.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "indexes" / "celeb_df"
LIST = "List_of_testing_videos.txt"


class Blank:
    """Instead of drawn videos: files that hold their own name."""

    def restart(self):
        pass

    def video(self, path, subject, kind="genuine", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


@pytest.fixture
def mini(tmp_path):
    return make_layout("celeb_df", tmp_path / "Celeb-DF-v2", media=Blank())


def test_miniature_has_both_classes_in_each_split(mini):
    manifest = read_format("auto", mini)  # checked for leaks
    table = manifest.table
    assert len(table) == 42 and not len(manifest.missing_files()) and manifest.name == "Celeb-DF v2"
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts["test", 0] == 5 and counts["test", 1] == 4
    assert counts["train", 0] >= 6 and counts["train", 1] >= 6
    assert counts["val", 0] >= 2 and counts["val", 1] >= 2
    assert (table["visual_label"] == table["label"]).all() and table["audio_label"].isna().all()
    assert any("the publisher has 590, 300, 5639 in v2" in note for note in manifest.notes)


def test_the_list_says_1_for_real(mini):
    table = read_format("auto", mini).table.set_index("path")
    assert table.loc["YouTube-real/00006.mp4", ["label", "split"]].tolist() == [0, "test"]
    assert table.loc["Celeb-synthesis/id0_id1_0000.mp4", ["label", "split"]].tolist() == [1, "test"]


def test_the_first_line_of_the_list_is_no_header(mini):
    """`read_csv(header=0)` loses it, and its video goes to train."""
    first = (mini / LIST).read_text().splitlines()[0].split()[1]
    assert read_format("auto", mini).table.set_index("path").loc[first, "split"] == "test"


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_nobody_is_in_train_and_val(mini, seed):
    manifest = read_format("auto", mini, seed=seed)
    table = manifest.table
    people = {
        split: set(rows["subject"].str.replace(r"@\w+", "", regex=True).str.split("+").explode())
        for split, rows in table.groupby("split")
    }
    assert not people["train"] & people["val"]
    dropped = table[table["split"].isna()]
    for both in dropped["subject"].str.split("+"):
        assert len(set(both) & people["val"]) == 1 and len(set(both) & people["train"]) == 1
    text = f"{len(dropped)} fakes that join a person of train with one of val have no split"
    assert any(text in note for note in manifest.notes)


def test_people_of_the_test_list_in_the_other_splits_are_told(mini):
    manifest = read_format("auto", mini)
    table = manifest.table.set_index("path")
    assert table.loc["Celeb-real/id0_0000.mp4", "subject"] == "celebdf_id0@test"
    assert table.loc["Celeb-real/id0_0000.mp4", "shared_between_splits"] == "celebdf_id0"
    assert any("subjects on more than one side" in note for note in manifest.notes)


def test_a_fake_has_the_recording_of_its_first_person_and_both_people(tmp_path):
    for path in ("Celeb-synthesis/id3_id16_0007.mp4", "Celeb-real/id3_0007.mp4", "YouTube-real/00170.mp4"):
        touch(tmp_path, path)
    (tmp_path / LIST).write_text("1 YouTube-real/00170.mp4\n")
    table = read_format("auto", tmp_path).table.set_index("path")
    fake = table.loc["Celeb-synthesis/id3_id16_0007.mp4"]
    assert fake[["subject", "source", "method"]].tolist() == [
        "celebdf_id3+celebdf_id16", "celebdf_id3_0007", "Celeb-synthesis",
    ]  # fmt: skip
    assert table.loc["Celeb-real/id3_0007.mp4", "source"] == "celebdf_id3_0007"


def touch(root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


@pytest.mark.parametrize("youtube", ["YouTube-real", "Youtube-real"])
@pytest.mark.parametrize("level", ["", "videos/"])
def test_spellings_and_the_videos_level(mini, youtube, level):
    before = read_format("auto", mini).table
    (mini / "YouTube-real").rename(mini / "kept")
    (mini / "kept").rename(mini / youtube)
    if level:
        for folder in ("Celeb-real", youtube, "Celeb-synthesis"):
            (mini / folder).rename(mini / "kept")
            (mini / folder).mkdir()
            (mini / "kept").rename(mini / folder / "videos")
    manifest = read_format("auto", mini)
    assert not len(manifest.missing_files())
    expected = before["path"].str.replace("YouTube-real", youtube).str.replace("/", f"/{level}")
    assert manifest.table["path"].tolist() == expected.tolist()
    test = manifest.table["split"].eq("test")
    assert test.equals(before["split"].eq("test")) and int(test.sum()) == 9


def test_two_real_folders_with_one_name_do_not_overwrite_each_other(tmp_path):
    for path in ("Celeb-real/id1_0000.mp4", "YouTube-real/00000.mp4", "Celeb-synthesis/id1_id2_0000.mp4"):
        touch(tmp_path, path)
    (tmp_path / LIST).write_text("1 YouTube-real/00000.mp4\n")
    shutil.copy(tmp_path / "Celeb-real/id1_0000.mp4", tmp_path / "YouTube-real/id1_0000.mp4")
    manifest = read_format("auto", tmp_path)
    real = manifest.table[manifest.table["label"] == 0]
    assert len(real) == 3 and manifest.keys.is_unique
    assert real.groupby("folder").size().to_dict() == {"Celeb-real": 1, "YouTube-real": 2}
    assert real.set_index("path").loc["Celeb-real/id1_0000.mp4", "split"] != "test"


def test_published_test_list(tmp_path):
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    shutil.copy(SHARED / LIST, tmp_path)
    manifest = read_format("auto", tmp_path)
    table = manifest.table
    assert len(table) == 518 and set(table["split"]) == {"test"} and manifest.name == "Celeb-DF v2"
    assert table["label"].value_counts().to_dict() == {0: 178, 1: 340}
    assert table["folder"].value_counts().to_dict() == {
        "Celeb-synthesis": 340, "Celeb-real": 108, "YouTube-real": 70,
    }  # fmt: skip
    assert "YouTube-real/00170.mp4" in set(table["path"])  # the first line
    assert not any("the publisher's test list has" in note for note in manifest.notes)
    (tmp_path / LIST).write_text("\n".join((tmp_path / LIST).read_text().splitlines()[1:]))
    renamed = tmp_path.rename(tmp_path.with_name("Celeb-DF-v2"))
    notes = read_format("auto", renamed).notes
    assert "the publisher's test list has 178 genuine and 340 fake clips" in notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 YouTube-real/00170.mp4\n", r"line 1: label 0 \(1 = real\) contradicts the folder YouTube-real"),
        ("1 Celeb-synthesis/id0_id1_0000.mp4", "contradicts the folder Celeb-synthesis"),
        ("label path\n", "line 1: expected `1 Celeb-real/NAME.mp4`, found 'label path'"),
        ("1 Other/a.mp4\n", "line 1: expected"),
        (
            "1 Celeb-real/id0_0000.mp4\n\n1 Celeb-real/id0_0000.mp4\n",
            "line 3: Celeb-real/id0_0000.mp4 is listed",
        ),
        ("0 Celeb-synthesis/id0_0000.mp4\n", "expected id0_0000.mp4, or id0_id1_0000.mp4 of a fake"),
        ("", "holds no videos of Celeb-DF"),
    ],
)
def test_damaged_lists_are_named(tmp_path, content, message):
    (tmp_path / LIST).write_text(content)
    with pytest.raises(DataError, match=message):
        read_format("celeb_df", tmp_path)


def test_errors_of_the_folder(tmp_path, mini):
    (mini / LIST).unlink()
    with pytest.raises(DataError, match="has no List_of_testing_videos.txt: without it"):
        read_format("auto", mini)
    (tmp_path / "YouTube-real").mkdir()
    (tmp_path / "Youtube-real").mkdir()
    (tmp_path / LIST).touch()
    if len(list(tmp_path.glob("You*"))) == 2:  # a file system that tells the two apart
        with pytest.raises(DataError, match="merge them into one"):
            read_format("celeb_df", tmp_path)
