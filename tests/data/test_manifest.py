import re
from pathlib import Path

import pandas as pd
import pytest

from avdetect.data.manifest import Manifest, class_counts, require_both_classes, stage_label
from avdetect.errors import ConfigError, DataError


def table(**columns):
    count = max(len(v) for v in columns.values() if isinstance(v, list))
    return pd.DataFrame({"path": [f"{i}.mp4" for i in range(count)], "dataset": "D"} | columns)


def test_columns_types_and_defaults(tmp_path):
    manifest = Manifest(table(label=[0, 1.0, None], extra=[7, 8, 9]), root=tmp_path, name="mine")
    assert str(manifest.table["label"].dtype) == "Int64" and manifest.table["label"].isna().tolist() == [
        0,
        0,
        1,
    ]
    assert manifest.table["kind"].tolist() == ["video"] * 3
    assert manifest.table["root"].unique().tolist() == [str(tmp_path)]
    assert manifest.table["extra"].tolist() == [7, 8, 9]
    assert manifest.keys.tolist() == ["D/0.mp4", "D/1.mp4", "D/2.mp4"]
    assert Manifest(pd.DataFrame({"path": ["a.wav"]}), name="mine").keys.tolist() == ["mine/a.wav"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_written_and_read_again_is_the_same(tmp_path, suffix):
    elsewhere = tmp_path / "elsewhere"
    rows = table(label=[0, 1], visual_label=[0, None], split=["train", "val"], subject=["a+b", None],
                 root=[str(tmp_path / "data"), str(elsewhere)])  # fmt: skip
    manifest = Manifest(rows, name="mine")
    file = manifest.write(tmp_path / "data" / f"m.{suffix}")
    assert list(file.parent.iterdir()) == [file]
    again = Manifest.read(file)
    pd.testing.assert_frame_equal(again.table, manifest.table)
    assert again.file_of(again.table.iloc[1]) == elsewhere / "1.mp4"


def test_roots_below_the_file_move_with_it(tmp_path):
    here = tmp_path / "a"
    Manifest(table(label=[0, 1], root=[str(here), str(here / "sub")])).write(here / "m.csv")
    moved = here.rename(tmp_path / "b")
    assert Manifest.read(moved / "m.csv").table["root"].tolist() == [str(moved), str(moved / "sub")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\\b\\c.mp4", "a/b/c.mp4"),
        ("./a//b.mp4", "a/b.mp4"),
        ("a/../b.mp4", "b.mp4"),
        ("{root}/x/y.mp4", "x/y.mp4"),
        ("/x/y.mp4", "x/y.mp4"),
    ],
)
def test_paths_become_relative_and_posix(tmp_path, path, expected):
    manifest = Manifest(pd.DataFrame({"path": [path.format(root=tmp_path)]}), root=tmp_path)
    assert manifest.table["path"].tolist() == [expected]
    assert manifest.table["root"].tolist() == [str(tmp_path)]


def test_absolute_path_of_a_file_outside_the_root_stays_that_file(tmp_path):
    file = tmp_path / "out" / "a.mp4"
    file.parent.mkdir()
    file.touch()
    manifest = Manifest(pd.DataFrame({"path": [str(file)]}), root=tmp_path / "in")
    assert manifest.file_of(manifest.table.iloc[0]) == file
    windows = Manifest(pd.DataFrame({"path": ["D:\\set\\a.mp4"]}), root=tmp_path)
    assert windows.table.loc[0, ["root", "path"]].tolist() == ["D:/", "set/a.mp4"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.mp4", "a.mp4"]}, r"more than once.*1 row: D/a\.mp4"),
        ({"label": [0, 2]}, r"label is neither 0, 1.*D/1\.mp4 \(2\)"),
        ({"label": [1, 0], "visual_label": [1, 1]}, r"label is 0 although.*D/1\.mp4"),
        ({"label": [0, 1], "audio_label": [1, 1]}, r"label is 0 although.*D/0\.mp4"),
        ({"split": ["train", "dev"]}, r"split is none of.*D/1\.mp4 \(dev\)"),
        ({"kind": ["video", "film"]}, r"kind is none of.*D/1\.mp4 \(film\)"),
        ({"path": ["a.mp4", "a.txt"]}, r"kind is none of.*D/a\.txt \(missing\)"),
        ({"path": ["a.mp4", "../../etc/b.mp4"]}, r"path leads out of its root.*1 row: D/\.\./\.\./etc/b\.mp4"),
        ({"path": ["a.mp4", "x\\..\\..\\b.mp4"]}, r"path leads out of its root.*1 row: D/\.\./b\.mp4"),
        ({"fake_periods": ["[]", "nonsense"]}, r"fake_periods is no JSON.*1 row: D/1\.mp4 \(nonsense\)"),
        ({"fake_periods": ["[[0.5, 1], [2,3.25]]", "[[0.5]]"]}, r"fake_periods is no JSON.*D/1\.mp4"),
        ({"split": ["train", "test"], "source": ["s", "s"]}, r"source in more.*s in test and train"),
        ({"split": ["train", "val"], "subject": ["a+b", "c+b"]}, r"subject in more.*: b in train and val"),
    ],
)  # fmt: skip
def test_check_names_the_offending_rows(columns, message):
    with pytest.raises(DataError, match=message):
        Manifest(table(**columns)).check()


def test_check_lets_a_clean_table_pass_and_lists_all_faults_at_once():
    clean = Manifest(table(label=[1, 0, None], visual_label=[0, 0, None], audio_label=[1, None, None],
                           split=["train", "train", None], source=["s", "s", "s"]))  # fmt: skip
    assert clean.check() is clean
    with pytest.raises(DataError) as error:
        Manifest(table(label=[3, 0], split=["x", "y"])).check()
    assert "label is neither" in str(error.value) and "split is none" in str(error.value)


def test_labels_that_are_no_numbers_and_tables_without_paths_are_refused(tmp_path):
    with pytest.raises(DataError, match="column label must hold 0, 1 or nothing"):
        Manifest(table(label=["real", "fake"]))
    with pytest.raises(DataError, match="0.5|must hold"):
        Manifest(table(label=[0.5, 1]))
    with pytest.raises(DataError, match="no column `path`, only: file"):
        Manifest(pd.DataFrame({"file": ["a"]}))
    with pytest.raises(DataError, match="1 rows have no path"):
        Manifest(pd.DataFrame({"path": ["a.mp4", " "]}))
    with pytest.raises(DataError, match="there is no such manifest"):
        Manifest.read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a .csv or .parquet file"):
        Manifest.read(tmp_path / "none.xlsx")
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        Manifest.read(tmp_path / "bad.parquet")
    (tmp_path / "long.csv").write_text("path,label\na.mp4,0,x\nb.mp4,1,y\n")
    with pytest.raises(DataError, match="more fields than its header"):
        Manifest.read(tmp_path / "long.csv")
    (tmp_path / "two.csv").write_text("path,label,label\na.mp4,0,1\n")
    with pytest.raises(DataError, match="has the column label twice"):
        Manifest.read(tmp_path / "two.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="empty.csv cannot be read as CSV"):
        Manifest.read(tmp_path / "empty.csv")


def test_where_keeps_the_rows_and_refuses_bad_queries():
    manifest = Manifest(table(label=[0, 1, None], split=["train", None, "test"]))
    assert manifest.where("label == 1").table["path"].tolist() == ["1.mp4"]
    assert manifest.where("split == 'test' or label == 0").table["path"].tolist() == ["0.mp4", "2.mp4"]
    assert manifest.where("label != 1").table["path"].tolist() == ["0.mp4"]  # unknown is not "other"
    assert len(manifest.where("split == 'none'")) == 0
    for query in ("splat == 1", "label ==", "label + 1", "1 == 1"):
        with pytest.raises(ConfigError, match=re.escape(repr(query))):
            manifest.where(query)


def test_missing_files_are_reported_and_left_out(tmp_path):
    for name in ("0.mp4", "2.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "1.mp4").mkdir()  # a folder is no file
    manifest = Manifest(table(label=[0, 0, 0, 0]), root=tmp_path, name="mine")
    assert manifest.missing_files().table["path"].tolist() == ["1.mp4", "3.mp4"]
    said = []
    assert manifest.existing(said.append).table["path"].tolist() == ["0.mp4", "2.mp4"]
    assert said == ["2 of 4 files listed in mine are not there and are skipped: 1.mp4, 3.mp4"]
    said.clear()
    assert len(manifest.where("path == '0.mp4'").existing(said.append)) == 1 and not said


def test_folders_that_cannot_be_looked_into(tmp_path, monkeypatch):
    (tmp_path / "0.mp4").touch()
    (tmp_path / "1.mp4").symlink_to("1.mp4")
    (tmp_path / "loop").symlink_to("loop")
    paths = ["0.mp4", "1.mp4", "loop/2.mp4", "x" * 300 + "/3.mp4"]
    manifest = Manifest(table(path=paths), root=tmp_path)
    assert manifest.missing_files().table["path"].tolist() == paths[1:]

    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="cannot be listed .Permission denied.: check its permissions"):
        manifest.missing_files()


def test_join_finds_leaks_between_manifests(tmp_path):
    one = Manifest(table(split=["train"], subject=["ann"]), root=tmp_path / "1", name="one")
    two = Manifest(
        table(split=["test"], subject=["ann+bob"]).assign(dataset="E"), root=tmp_path / "2", name="two"
    )
    with pytest.raises(DataError, match="ann in test and train"):
        Manifest.join([one, two])
    joined = Manifest.join([one, two], check=False)
    assert joined.keys.tolist() == ["D/0.mp4", "E/0.mp4"]
    assert joined.table["root"].tolist() == [str(tmp_path / "1"), str(tmp_path / "2")]
    with pytest.raises(DataError, match="more than once"):
        Manifest.join([one, one])
    with pytest.raises(DataError, match="no manifest"):
        Manifest.join([])


def test_summary_and_class_counts():
    manifest = Manifest(table(label=[0, 1, 1, None], split=["train", "train", "train", None]))
    assert class_counts(manifest.table["label"]) == {"genuine": 1, "fake": 2, "unlabelled": 1}
    assert manifest.summary() == "D  video  no split  1 unlabelled\nD  video  train  1 genuine  2 fake"


CASES = [  # kind, label, visual, audio, method -> clip, visual, audio, lipsync
    ("video", 0, 0, 0, None, 0, 0, 0, 0),
    ("video", 0, None, None, None, 0, 0, 0, 0),
    ("video", 1, None, None, None, 1, 1, 1, None),  # DFDC: the clip's label stands for face and voice
    (
        "video",
        1,
        1,
        None,
        None,
        1,
        1,
        None,
        None,
    ),  # the face is known to be the fake part: the voice is not known
    ("video", 1, None, 1, None, 1, None, 1, None),
    ("video", 1, 1, 0, "swap", 1, 1, 0, None),
    ("video", 1, 0, 1, "voice", 1, 0, 1, None),
    ("video", 1, 0, 0, "out_of_sync", 1, 0, 0, 1),
    ("video", 1, None, None, "out_of_sync", 1, None, None, 1),
    ("audio", 1, None, None, None, 1, None, 1, None),
    ("audio", 0, None, 0, None, 0, None, 0, None),
    ("image", 1, None, None, None, 1, 1, None, None),
    ("image", 0, 0, None, None, 0, 0, None, None),
    ("video", None, None, None, None, None, None, None, None),
]


def test_stage_label_for_every_combination():
    rows = pd.DataFrame(
        [case[:5] for case in CASES], columns=["kind", "label", "visual_label", "audio_label", "method"]
    )
    rows["path"] = [f"{i}.bin" for i in range(len(rows))]
    frame = Manifest(rows).table
    for column, stage in enumerate(("clip", "visual", "audio", "lipsync"), start=5):
        found = [None if pd.isna(v) else int(v) for v in stage_label(frame, stage)]
        assert found == [case[column] for case in CASES], stage
    silent = frame.assign(has_audio=False)
    assert stage_label(silent, "audio").isna().all() and stage_label(silent, "lipsync").isna().all()
    assert stage_label(silent, "visual").equals(stage_label(frame, "visual"))
    with pytest.raises(ConfigError, match="unknown stage 'face'"):
        stage_label(frame, "face")


def test_one_class_alone_is_refused_in_one_sentence():
    frame = Manifest(table(label=[1, 1, 1], visual_label=[1, 0, 0])).table
    require_both_classes(frame, "visual")
    with pytest.raises(DataError) as error:
        require_both_classes(frame, "clip", "DFDC part 0")
    assert "one class alone" in str(error.value) and "DFDC part 0 has 0 genuine and 3 fake" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_the_shared_manifest_is_read_and_its_leak_found():
    file = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "manifest.csv"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    manifest = Manifest.read(file, check=False)
    assert len(manifest) == 10804 and not len(manifest.missing_files())
    with pytest.raises(DataError, match="lj in test and train and val"):  # one reader, three corpora
        manifest.check()
    assert len(manifest.where("dataset != 'HiFi-GAN demo'").check()) == 10644
