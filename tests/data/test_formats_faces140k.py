import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

HEADER = ",original_path,id,label,label_str,path"
LINES = {
    "train": [
        "0,/x/31355.png,31355,1,real,train/real/31355.jpg",
        "1,/x/7.jpg,00007,0,fake,train/fake/00007.jpg",
    ],
    "valid": ["0,/x/1.png,00001,1,real,valid/real/00001.jpg"],
    "test": ["0,/x/2.jpg,2AB,0,fake,test/fake/2AB.jpg"],
}


def write_csv(root, lines=LINES):
    for part, rows in lines.items():
        (root / f"{part}.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def write_pictures(base, lines=LINES):
    for rows in lines.values():
        for row in rows:
            file = base / row.split(",")[-1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def labels(manifest):
    names = manifest.table["path"].str.rpartition("/")[2]
    return manifest.table["label"].set_axis(names).to_dict()


def test_label_1_of_the_csv_files_is_real(tmp_path):
    write_csv(tmp_path)
    assert detect_format(tmp_path) == "faces140k"
    manifest = read_format("auto", tmp_path)
    assert labels(manifest) == {"31355.jpg": 0, "00007.jpg": 1, "00001.jpg": 0, "2AB.jpg": 1}
    assert manifest.table["visual_label"].equals(manifest.table["label"].rename("visual_label"))
    assert manifest.table["split"].tolist() == ["train", "train", "val", "test"]
    assert manifest.table["method"].fillna("-").tolist() == ["-", "StyleGAN", "-", "StyleGAN"]
    assert manifest.table["source"].tolist() == ["real/31355", "fake/00007", "real/00001", "fake/2AB"]
    assert len(manifest.missing_files()) == 4
    assert "1 real and 1 fake pictures, where the publisher has 50000 of each" in manifest.notes[0]


@pytest.mark.parametrize("base", ["real_vs_fake/real-vs-fake", "real-vs-fake", "real_vs_fake", "."])
def test_csv_files_and_folders_agree(tmp_path, base):
    write_pictures(tmp_path / base)
    write_csv(tmp_path)
    indexed = read_format("auto", tmp_path)
    assert len(indexed.missing_files()) == 0
    (tmp_path / "valid.csv").unlink()  # this part is then listed from its folders
    (tmp_path / "test.csv").unlink()
    listed = read_format("auto", tmp_path)
    assert labels(listed) == labels(indexed) and len(listed.missing_files()) == 0
    assert listed.table["source"].tolist() == indexed.table["source"].tolist()


def test_the_pictures_folder_itself_will_do(tmp_path):
    base = tmp_path / "real-vs-fake"
    write_pictures(base)
    assert detect_format(base) == "faces140k"
    assert read_format("auto", base).table["path"].tolist()[0] == "train/real/31355.jpg"


def test_contradictory_labels_and_missing_parts(tmp_path):
    write_csv(tmp_path, {"train": ["0,/x/1.png,1,0,real,train/real/1.jpg"]})
    with pytest.raises(
        DataError, match=r"train.csv line 2: expected the label 1 with real or 0 with fake, found 0"
    ):
        read_format("faces140k", tmp_path)
    write_csv(tmp_path, {"train": LINES["train"]})
    manifest = read_format("faces140k", tmp_path)
    assert sum("part left out" in note for note in manifest.notes) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not the 140k set"):
        read_format("faces140k", tmp_path / "empty")


def test_other_train_csv_files_are_not_claimed(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\na.png,1\n")
    with pytest.raises(DataError, match="none of the layouts"):
        detect_format(tmp_path)
