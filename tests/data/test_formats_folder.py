import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def columns(root, *names):
    table = read_format("auto", root).table.set_index("path")
    return [table[name].to_dict() for name in names]


@pytest.mark.parametrize(
    ("genuine", "fake"),
    [
        ("real", "fake"),
        ("Real", "FAKE"),
        ("genuine", "spoof"),
        ("bona_fide", "DeepFake"),
        ("original", "deep-fake"),
    ],
)
def test_class_folders(tmp_path, genuine, fake):
    for k in range(10):
        touch(tmp_path, f"{genuine}/a{k}.mp4", f"{fake}/b{k}.mp4")
    assert detect_format(tmp_path) == "folder"
    label, split, kind = columns(tmp_path, "label", "split", "kind")
    assert (
        all(value == int(path.startswith(f"{fake}/")) for path, value in label.items()) and len(label) == 20
    )
    assert set(split.values()) == {"train", "val", "test"} and set(kind.values()) == {"video"}


@pytest.mark.parametrize("pattern", ["{split}/{name}/{file}", "{name}/{split}/{file}"])
def test_split_above_or_below_is_kept(tmp_path, pattern):
    for split in ("Train", "valid", "test"):
        for name in ("real", "fake"):
            # numbers begin anew in each split: that is no leak
            touch(tmp_path, pattern.format(split=split, name=name, file="0001.jpg"))
    label, split, source = columns(tmp_path, "label", "split", "source")
    assert all(value == int("fake" in path) for path, value in label.items())
    assert all(
        value == ("train" if "Train" in path else "val" if "valid" in path else "test")
        for path, value in split.items()
    )
    assert sorted(source.values()) == [
        "test/0001",
        "test/0001",
        "train/0001",
        "train/0001",
        "val/0001",
        "val/0001",
    ]


def test_sub_folders_of_one_name_in_several_splits_are_told(tmp_path):
    for split in ("train", "val", "test"):
        for file in ("real/ann/1.mp4", "fake/bob/1.mp4", f"real/{split}_only/1.mp4", "fake/7.mp4"):
            touch(tmp_path, f"{split}/{file}")
    [note] = read_format("folder", tmp_path).notes
    assert note.startswith("sub-folders of 2 names are in more than one split (ann, bob, …)")


def test_source_is_the_sub_folder_or_the_name_and_stays_whole(tmp_path):
    for k in range(8):
        touch(
            tmp_path,
            f"real/p{k}/x.wav",
            f"real/p{k}/y.png",
            f"fake/p{k}/z.mp4",
            f"real/v{k}.mp4",
            f"fake/v{k}.mp4",
        )
    manifest = read_format("auto", tmp_path)  # checked: no source on two sides
    table = manifest.table.set_index("path")
    assert table.loc[["real/p1/x.wav", "fake/p1/z.mp4"], "source"].tolist() == ["p1", "p1"]
    assert table.loc[["real/v1.mp4", "fake/v1.mp4"], "source"].tolist() == ["v1", "v1"]
    assert table.groupby("source")["split"].nunique().max() == 1
    assert table.loc["real/p1/x.wav", "kind"] == "audio" and table.loc["real/p1/y.png", "kind"] == "image"


def test_labels_of_the_parts(tmp_path):
    touch(tmp_path, *(f"{c}/a.{s}" for c in ("real", "fake") for s in ("mp4", "wav", "png")))
    visual, audio = columns(tmp_path, "visual_label", "audio_label")
    known = {path: value for path, value in visual.items() if value in (0, 1)}
    assert known == {"real/a.mp4": 0, "real/a.png": 0, "fake/a.png": 1}
    known = {path: value for path, value in audio.items() if value in (0, 1)}
    assert known == {"real/a.mp4": 0, "real/a.wav": 0, "fake/a.wav": 1}


def test_validation_is_carved_and_other_files_are_left_alone(tmp_path):
    for k in range(20):
        touch(tmp_path, f"train/real/{k}.png", f"train/fake/f{k}.png")
    touch(tmp_path, "test/real/1.png", "test/fake/1.png", "train/real/notes.txt", "train/real/.hidden.png")
    manifest = read_format("auto", tmp_path)
    assert manifest.table["split"].value_counts().to_dict() == {"train": 34, "val": 6, "test": 2}
    assert (
        manifest.notes[0] == "1 files of other kinds are left alone"
        and "is carved by source" in manifest.notes[1]
    )


def test_one_class_or_no_media_is_no_dataset(tmp_path):
    touch(tmp_path, "real/a.mp4", "synthetic/b.mp4")
    with pytest.raises(DataError, match="none of the layouts"):
        detect_format(tmp_path)
    (tmp_path / "none" / "real").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no media files of known class"):
        read_format("folder", tmp_path / "none")
