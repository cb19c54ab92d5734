import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError


def test_a_file_and_a_folder_with_one(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label,split\na.mp4,0,train\n")
    for root in (tmp_path, tmp_path / "manifest.csv"):
        assert detect_format(root) == "manifest"
        manifest = read_format("auto", root)
        assert manifest.table[["path", "label", "split"]].values.tolist() == [["a.mp4", 0, "train"]]
        assert manifest.table["root"].tolist() == [str(tmp_path)]


def test_a_manifest_goes_before_the_layout_around_it(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label\na.mp4,0\n")
    (tmp_path / "labels.csv").write_text("filename,label\na.mp4,0\n")
    assert detect_format(tmp_path) == "manifest"


def test_it_is_checked(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label\na.mp4,0\na.mp4,1\n")
    with pytest.raises(DataError, match="more than once"):
        read_format("manifest", tmp_path)
    with pytest.raises(DataError, match="a manifest is a .csv or .parquet file"):
        read_format("manifest", tmp_path / ".." / tmp_path.name / "..")
