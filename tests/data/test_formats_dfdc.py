import gzip
import json
from pathlib import Path

import pytest

from avdetect.data.formats import describe_formats, detect_format, list_formats, read_format
from avdetect.errors import ConfigError, DataError

shared = Path(__file__).resolve().parents[2].parent / "shared"


def write_part(folder, names, make_files=True):
    """A genuine clip and a fake made from it for every name."""
    folder.mkdir(parents=True)
    entries = {}
    for name in names:
        entries[f"{name}.mp4"] = {"label": "REAL", "split": "train", "original": None}
        entries[f"{name}x.mp4"] = {"label": "FAKE", "split": "train", "original": f"{name}.mp4"}
        if make_files:
            for file in (f"{name}.mp4", f"{name}x.mp4"):
                (folder / file).touch()
    (folder / "metadata.json").write_text(json.dumps(entries))


def by_path(manifest):
    return manifest.table.set_index("path")


def test_parts_with_the_published_split(tmp_path):
    for part in (0, 1, 35, 40):
        write_part(tmp_path / f"dfdc_train_part_{part}", [f"a{part}", f"b{part}"])
    (tmp_path / "readme").mkdir()
    assert detect_format(tmp_path) == "dfdc"
    manifest = read_format("auto", tmp_path)
    table = by_path(manifest)
    assert len(table) == 16 and not len(manifest.missing_files())
    fake = table.loc["dfdc_train_part_35/a35x.mp4"]
    assert (fake["label"], fake["source"], fake["split"], fake["part"]) == (1, "dfdc_a35", "val", 35)
    real = table.loc["dfdc_train_part_35/a35.mp4"]
    assert (real["label"], real["source"], real["split"]) == (0, "dfdc_a35", "val")
    assert table["visual_label"].isna().all() and table["audio_label"].isna().all()
    assert table["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 4}
    assert "published split" in manifest.notes[0]


def test_one_part_folder_as_root_and_its_parent_give_the_same_clips(tmp_path):
    write_part(tmp_path / "x" / "dfdc_train_part_7", [f"c{i}" for i in range(20)])
    one, parent = read_format("dfdc", tmp_path / "x" / "dfdc_train_part_7"), read_format("dfdc", tmp_path)
    assert one.table["path"].iloc[0] == "c0.mp4" and one.table["part"].unique().tolist() == [7]
    assert parent.table["path"].iloc[0] == "x/dfdc_train_part_7/c0.mp4"
    assert one.table["source"].tolist() == parent.table["source"].tolist()
    assert one.table["split"].value_counts().to_dict() == {"train": 28, "val": 6, "test": 6}
    assert not one.table.equals(read_format("dfdc", tmp_path / "x" / "dfdc_train_part_7", seed=1).table)


def test_kaggle_sample_with_unlabelled_test_videos(tmp_path):
    write_part(tmp_path / "train_sample_videos", [f"d{i}" for i in range(10)])
    (tmp_path / "test_videos").mkdir()
    (tmp_path / "test_videos" / "t.mp4").touch()
    manifest = read_format("auto", tmp_path)
    table = by_path(manifest)
    assert len(table) == 21 and table["label"].isna().sum() == 1
    assert table.loc["test_videos/t.mp4", ["label", "split"]].isna().all()
    assert table.loc["train_sample_videos/d0x.mp4", "source"] == "dfdc_d0"
    assert any("Kaggle sample" in note for note in manifest.notes)


def test_test_set_by_labels_csv_and_by_metadata(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "labels.csv").write_text("filename,label\nu.mp4,1\nv.mp4,0\n")
    table = by_path(read_format("auto", tmp_path / "csv"))
    assert table["label"].to_dict() == {"u.mp4": 1, "v.mp4": 0} and set(table["split"]) == {"test"}

    (tmp_path / "json" / "videos").mkdir(parents=True)
    (tmp_path / "json" / "videos" / "u.mp4").touch()
    changes = {"augmenter": {"blur": {}}, "distractor": {"text": {}}}
    entries = {"u.mp4": {"augmentations": changes, "is_fake": 1},
               "v.mp4": {"augmentations": {}, "is_fake": 0}}  # fmt: skip
    (tmp_path / "json" / "metadata.json").write_text(json.dumps(entries))
    table = by_path(read_format("auto", tmp_path / "json"))
    assert table["label"].to_dict() == {"videos/u.mp4": 1, "videos/v.mp4": 0}
    assert table.loc["videos/u.mp4", "quality"] == "blur+text" and table["quality"].isna().sum() == 1


def test_demo_truth_is_merged_and_must_agree(tmp_path):
    write_part(tmp_path / "dfdc_train_part_0", ["a"])
    truth = tmp_path / "demo_truth.csv"
    head, part = "path,label,visual_label,audio_label,method,subject,source\n", "dfdc_train_part_0"
    truth.write_text(f"{head}{part}/a.mp4,0,0,0,,s1,a.mp4\n{part}/ax.mp4,1,0,1,voice,s1+s2,a.mp4\n")
    table = by_path(read_format("auto", tmp_path))
    fake = table.loc[f"{part}/ax.mp4"]
    assert fake[["visual_label", "audio_label", "label"]].tolist() == [0, 1, 1]
    assert fake[["method", "subject", "source", "dataset"]].tolist() == [
        "voice",
        "s1+s2",
        "a.mp4",
        "DFDC demo",
    ]
    truth.write_text(f"{head}{part}/a.mp4,0,0,0,,s1,a\n{part}/ax.mp4,0,0,0,,s1,a\n")
    with pytest.raises(DataError, match=rf"do not agree on 1 clips \({part}/ax.mp4\)"):
        read_format("auto", tmp_path)
    truth.write_text(f"{head}{part}/a.mp4,0,0,0,,s1,a\n")
    with pytest.raises(DataError, match="do not agree on 1 clips"):
        read_format("auto", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a.mp4": {"label": "FAKE", ', "not valid JSON"),
        ('{"a.mp4": {"label": "fake"}}', "a.mp4 has the label 'fake', expected REAL or FAKE"),
        ('{"a.mp4": {"is_fake": 2}}', "a.mp4 has the label 2, expected 0 or 1"),
        ('{"a.mp4": {"label": "REAL"}, "b.mp4": 1}', "entry 'b.mp4' is no object"),
    ],
)
def test_damaged_metadata_is_named(tmp_path, content, message):
    (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_format("dfdc", tmp_path)


def test_unknown_layouts_and_names(tmp_path):
    (tmp_path / "metadata.json").write_text('{"name": "something else"}')
    with pytest.raises(DataError) as error:
        detect_format(tmp_path)
    assert all(name in str(error.value) for name in list_formats()) and describe_formats() in str(error.value)
    with pytest.raises(DataError, match="is no DFDC folder"):
        read_format("dfdc", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_format("dfdc", tmp_path / "none")
    with pytest.raises(ConfigError, match="did you mean dfdc"):
        read_format("dfcd", tmp_path)


def test_real_training_files_and_their_missing_neighbours():
    root = shared / "data" / "dfdc"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    manifest = read_format("auto", root)
    assert len(manifest) == 6 and manifest.table["label"].tolist() == [1] * 6
    assert sorted(manifest.table["part"].unique()) == [0, 1, 10]
    said = []
    assert len(manifest.existing(said.append)) == 3
    assert said[0].startswith("3 of 6 files") and "awnfpubqmo.mp4" in said[0]


def test_published_test_index_counts(tmp_path):
    index = shared / "indexes" / "dfdc" / "test_metadata.json.gz"
    if not index.is_file():
        pytest.skip(f"{index} is not there")
    (tmp_path / "metadata.json").write_bytes(gzip.decompress(index.read_bytes()))
    table = read_format("auto", tmp_path).table
    assert len(table) == 5000 and int(table["label"].sum()) == 2500 and set(table["split"]) == {"test"}
