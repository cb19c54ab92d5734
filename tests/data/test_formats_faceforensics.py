import json
import shutil
from pathlib import Path

import pytest

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import read_format
from avdetect.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "indexes" / "faceforensics"
FOUR = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


class Blank:
    """Instead of drawn videos: files that hold their own name."""

    def restart(self):
        pass

    def video(self, path, subject, kind="genuine", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


@pytest.fixture
def mini(tmp_path):
    return make_layout("faceforensics", tmp_path / "ffpp", media=Blank())


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def count(table, *by):
    return table.groupby(list(by)).size().to_dict()


def test_miniature_has_both_classes_in_each_split_and_no_leak(mini):
    manifest = read_format("auto", mini)  # checked for leaks
    table = manifest.table
    ours = table[(table["dataset"] == "FaceForensics++") & (table["quality"] == "c23")]
    assert count(ours, "split", "label") == {
        ("train", 0): 6, ("train", 1): 30, ("val", 0): 2, ("val", 1): 10, ("test", 0): 4, ("test", 1): 20,
    }  # fmt: skip
    assert not len(manifest.missing_files()) and (table["visual_label"] == table["label"]).all()
    assert table["kind"].eq("video").all() and table["audio_label"].isna().all()


def test_a_fake_belongs_to_its_target_and_shows_both(mini):
    table = read_format("auto", mini).table.set_index("path")
    fake = table.loc["manipulated_sequences/FaceShifter/c23/videos/054_071.mp4"]
    assert fake[["label", "split", "subject", "source", "method", "quality"]].tolist() == [
        1, "train", "ffpp_054+ffpp_071", "ffpp_054", "FaceShifter", "c23",
    ]  # fmt: skip
    real = table.loc["original_sequences/youtube/c40/videos/054.mp4"]
    assert real[["label", "split", "subject", "source", "quality"]].tolist() == [
        0, "train", "ffpp_054", "ffpp_054", "c40",
    ]  # fmt: skip
    assert real[["method"]].isna().all()


def test_deepfakedetection_is_a_test_set_of_its_own(mini):
    manifest = read_format("auto", mini)
    dfd = manifest.table[manifest.table["dataset"] == "DeepFakeDetection"].set_index("path")
    assert count(dfd, "split", "label") == {("test", 0): 3, ("test", 1): 3}
    name = "01_02__walking_outside_cafe_disgusted__YR5OVD40.mp4"
    fake = dfd.loc[f"manipulated_sequences/DeepFakeDetection/c23/videos/{name}"]
    assert fake[["subject", "source", "method"]].tolist() == [
        "dfd_01+dfd_02", "dfd_01__walking_outside_cafe_disgusted", "DeepFakeDetection",
    ]  # fmt: skip
    assert fake["source"] in set(dfd.loc[dfd["label"] == 0, "source"])
    assert any("DFD has no official split" in note for note in manifest.notes)
    shutil.rmtree(mini / "original_sequences" / "youtube")
    for method in (*FOUR, "FaceShifter"):
        shutil.rmtree(mini / "manipulated_sequences" / method)
    assert read_format("auto", mini).name == "DeepFakeDetection"


def test_masks_are_no_clips(mini):
    assert (mini / "manipulated_sequences/Deepfakes/masks/videos/071_054.mp4").is_file()
    assert not read_format("auto", mini).table["path"].str.contains("masks").any()


@pytest.mark.parametrize("beside", [False, True])
def test_published_splits_and_names_that_four_methods_share(tmp_path, beside):
    """Keyed by its file name alone, 560 fakes of the test split would collapse to 140."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    folder = tmp_path if beside else tmp_path / "splits"
    folder.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        shutil.copy(SHARED / f"{split}.json", folder)
    (tmp_path / "original_sequences/youtube/c23/videos").mkdir(parents=True)
    for method in FOUR:
        for compression in ("c23", "raw"):
            (tmp_path / f"manipulated_sequences/{method}/{compression}/videos").mkdir(parents=True)
    manifest = read_format("auto", tmp_path)
    table = manifest.table
    assert count(table[table["label"] == 0], "split") == {"train": 720, "val": 140, "test": 140}
    fakes = table[table["quality"].eq("c23") & table["label"].eq(1)]
    for method in FOUR:
        assert count(fakes[fakes["method"] == method], "split") == {"train": 720, "val": 140, "test": 140}
    test = fakes[fakes["split"] == "test"]
    assert len(test) == 560 and test["path"].str.rpartition("/")[2].nunique() == 140
    assert manifest.keys.is_unique and len(table) == 1000 * (1 + 2 * 4)
    assert "split files with 360 train, 70 val, 70 test pairs" in manifest.notes
    assert len(manifest.missing_files()) == len(table)


def test_without_split_files_pairs_are_dealt_whole(mini):
    shutil.rmtree(mini / "splits")
    manifest = read_format("auto", mini, seed=1)  # checked for leaks
    ours = manifest.table[manifest.table["dataset"] == "FaceForensics++"]
    assert ours["split"].notna().all() and set(ours["split"]) == {"train", "val", "test"}
    assert any("dealt by pairs of videos (seed 1), not official" in note for note in manifest.notes)
    by_name = ours.assign(name=ours["path"].str.rpartition("/")[2]).groupby("name")["split"].nunique()
    assert by_name.eq(1).all()  # one side for all methods and compressions


def test_videos_outside_the_split_files_have_no_split(mini):
    touch(mini, "manipulated_sequences/FaceSwap/c23/videos/071_087.mp4")
    manifest = read_format("auto", mini)
    row = manifest.table.set_index("path").loc["manipulated_sequences/FaceSwap/c23/videos/071_087.mp4"]
    assert row[["split"]].isna().all() and "1 videos are in no split file and have no split" in manifest.notes


@pytest.mark.parametrize("compression", ["raw", "c0", "c23", "c40"])
def test_every_compression(tmp_path, compression):
    touch(tmp_path, f"original_sequences/youtube/{compression}/videos/000.mp4")
    assert read_format("auto", tmp_path).table["quality"].tolist() == [compression]


def test_errors(tmp_path, mini):
    (mini / "splits" / "val.json").rename(mini / "val.txt")
    with pytest.raises(DataError, match="has split files, but no val.json"):
        read_format("faceforensics", mini)
    for content, message in [
        ("[[", "is not valid JSON"),
        ('[["071"]]', "expected a list of pairs"),
        ('{"071": "054"}', "expected a list of pairs"),
        (json.dumps([["071", "600"]]), "video 071 is in train.json as well"),
    ]:
        (mini / "splits" / "val.json").write_text(content)
        with pytest.raises(DataError, match=message):
            read_format("faceforensics", mini)
    with pytest.raises(DataError, match=r"tmp.*has no videos of FaceForensics\+\+"):
        read_format("faceforensics", tmp_path)
    (tmp_path / "a/original_sequences/youtube/c23/videos").mkdir(parents=True)
    with pytest.raises(DataError, match="are empty, and no split file"):
        read_format("faceforensics", tmp_path / "a")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("original_sequences/youtube/c23/videos/004_982.mp4", "a name like 004.mp4"),
        ("manipulated_sequences/Deepfakes/c23/videos/004.mp4", "a name like 004_982.mp4"),
        ("original_sequences/actors/c23/videos/24.mp4", "a name like 24__SCENE.mp4"),
        (
            "manipulated_sequences/DeepFakeDetection/c23/videos/24__x.mp4",
            "a name like 24_23__SCENE__CODE.mp4",
        ),
    ],
)
def test_foreign_names_are_named(tmp_path, path, expected):
    touch(tmp_path, path)
    with pytest.raises(DataError, match=expected):
        read_format("faceforensics", tmp_path)
