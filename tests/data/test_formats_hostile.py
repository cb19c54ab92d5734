"""What an index must not do: end in a traceback, name files elsewhere unnoticed, lose a part of the set."""

import json
import os
import tarfile

import pytest
from PIL import Image

from avdetect.data.formats import detect_format, list_formats, read_format
from avdetect.errors import AvdetectError, DataError

LAVDF = {"split": "train", "modify_video": True, "modify_audio": False, "fake_periods": []}


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file.parent


@pytest.mark.parametrize(
    ("name", "index", "content"),
    [
        ("dfdc", "metadata.json", {"a.mp4": {"label": "FAKE", "original": ["b.mp4"]}}),
        ("dfdc_preview", "dataset.json", [1, 2]),
        ("lavdf", "metadata.json", [{**LAVDF, "file": 3}]),
        ("lavdf", "metadata.json", [{**LAVDF, "file": "a.mp4", "original": 5}]),
        ("avdeepfake1m", "train_metadata.json", [{"file": 3, "modify_type": "real"}]),
        ("avdeepfake1m", "train_metadata/a/b.json", {"file": None, "modify_type": "real"}),
        ("avdeepfake1m", "train_metadata/a/b.json", ["modify_type"]),
        ("deepfakebench", "UADFV.json", {"UADFV": {"UADFV_Real": {"train": {"0": {"frames": [1]}}}}}),
        ("deepfakebench", "UADFV.json", {"UADFV": {"UADFV_Real": {"train": {"0": {"frames": "0.png"}}}}}),
        ("deepfakebench", "UADFV.json", '{"UADFV": {"UADFV_Real": {"train": {}, "test": [0]}}}'),
        ("faceforensics", "splits/val.json", [["a"]]),
    ],
)
def test_json_of_another_shape_is_an_error_with_the_files_name(tmp_path, name, index, content):
    if name == "faceforensics":
        (tmp_path / "original_sequences/youtube/c23/videos").mkdir(parents=True)
        for split in ("train", "test"):
            write(tmp_path / f"splits/{split}.json", [])
    write(tmp_path / index, content)
    with pytest.raises(DataError) as caught:
        read_format(name, tmp_path)
    assert str(tmp_path / index) in str(caught.value)


@pytest.mark.parametrize("name", list_formats())
def test_a_file_in_place_of_a_folder_and_an_empty_folder(tmp_path, name):
    file = tmp_path / "notes.txt"
    file.write_text("nothing\n")
    (tmp_path / "empty").mkdir()
    for root in (file, tmp_path / "empty"):
        with pytest.raises(AvdetectError):
            read_format(name, root)


@pytest.mark.parametrize("place", ["..", "../../etc/a.mp4", "sub/../../../a.mp4"])
def test_an_index_must_not_lead_out_of_the_dataset(tmp_path, place):
    write(tmp_path / "metadata.json", [{**LAVDF, "file": place}, {**LAVDF, "file": "train/b.mp4"}])
    with pytest.raises(DataError, match="path leads out of its root .*: 1 row: "):
        read_format("lavdf", tmp_path)
    part = write(
        tmp_path / "dfdc_train_part_0/metadata.json",
        {f"../{place}": {"label": "REAL"}, "b.mp4": {"label": "REAL"}},
    )
    with pytest.raises(DataError, match="path leads out of its root"):
        read_format("dfdc", part)


def test_absolute_names_are_of_the_dataset_or_told(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere.mp4"
    elsewhere.touch()
    write(root / "metadata.json", [{**LAVDF, "file": "/train/b.mp4"}, {**LAVDF, "file": str(elsewhere)}])
    manifest = read_format("lavdf", root)
    assert manifest.table["path"].tolist() == ["train/b.mp4", str(elsewhere)[1:]]
    assert f"the index names 1 files outside of {root}, as {elsewhere}: " in " ".join(manifest.notes)
    write(root / "dfdc_train_part_0/metadata.json", {str(elsewhere): {"label": "REAL"}})
    assert read_format("dfdc", root).table["path"].tolist() == [f"dfdc_train_part_0{elsewhere}"]


def test_a_name_that_is_no_utf8_is_told(tmp_path):
    for name in ("real/a.png", os.fsdecode(b"fake/b\xff.png")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="is no UTF-8: rename it"):
        read_format("folder", tmp_path)


@pytest.mark.parametrize("layout", ["folder", "wilddeepfake", "avdeepfake1m"])
def test_a_folder_that_must_not_be_listed_is_no_empty_folder(tmp_path, miniature, layout, monkeypatch):
    """Left out unnoticed, its clips would be missing from every number."""
    root = miniature(layout)
    scandir = os.scandir
    closed = {"folder": "person_0", "wilddeepfake": "12", "avdeepfake1m": "id00012"}[layout]

    def refuse(path):
        if os.path.basename(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    if layout == "avdeepfake1m":
        name = "id00012/v/00001/a.json"
        write(tmp_path / "train_metadata" / name, {"modify_type": "real"})
        write(tmp_path / "train_metadata" / "id1/v/00001/a.json", {"modify_type": "real"})
        root = tmp_path
    with pytest.raises(DataError, match="cannot be read .Permission denied"):
        read_format(layout, root)


def test_a_loop_of_links_ends(tmp_path):
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").touch()
        (tmp_path / name / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    assert detect_format(tmp_path) == "folder"
    assert sorted(read_format("folder", tmp_path).table["path"]) == ["fake/fake.png", "real/real.png"]


@pytest.mark.parametrize("kind", ["climbs", "absolute", "symlink", "hardlink"])
def test_an_archive_that_climbs_or_holds_links_is_refused(tmp_path, kind):
    picture = tmp_path / "1.png"
    Image.new("RGB", (8, 8)).save(picture)
    shard = tmp_path / "real_train" / "1.tar.gz"
    shard.parent.mkdir()
    with tarfile.open(shard, "w:gz") as tar:
        tar.add(picture, "1/real/3/1.png")
        member = tarfile.TarInfo(
            {"climbs": "../../real/3/2.png", "absolute": "/etc/2.png"}.get(kind, "1/real/3/2.png")
        )
        member.linkname = "1/real/3/1.png"
        member.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}.get(kind, tarfile.REGTYPE)
        tar.addfile(member)
    with pytest.raises(DataError, match="as a link only" if "link" in kind else "leads out of it"):
        read_format("wilddeepfake", tmp_path)
