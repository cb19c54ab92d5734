import json

import pytest

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError


class Blank:
    """Instead of drawn videos: files that hold their own name."""

    def restart(self):
        pass

    def video(self, path, subject, kind="genuine", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


@pytest.fixture
def mini(tmp_path):
    return make_layout("dfdc_preview", tmp_path / "preview", media=Blank())


def test_miniature(mini):
    manifest = read_format("auto", mini)  # checked for leaks
    table = manifest.table
    assert len(table) == 32 and not len(manifest.missing_files())
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("train", 0): 8, ("train", 1): 8, ("val", 0): 4, ("val", 1): 4, ("test", 0): 4, ("test", 1): 4,
    }  # fmt: skip
    fake = table.set_index("path").loc["method_A/643049/643049_A/1085144_643049_A_001.mp4"]
    assert fake[["label", "subject", "source", "method"]].tolist() == [
        1, "dfdcp_643049+dfdcp_1085144", "dfdcp_643049_A", "method_A",
    ]  # fmt: skip
    assert fake["source"] in set(table.loc[table["label"] == 0, "source"])
    assert "fps15" in set(table["quality"]) and table["audio_label"].isna().all()
    assert any("the publisher has 1131 genuine and 4119 fake" in note for note in manifest.notes)


def test_people_are_read_from_names_where_the_entries_do_not_tell(mini):
    told = read_format("auto", mini).table
    entries = json.loads((mini / "dataset.json").read_text())
    bare = {name: {"label": e["label"], "set": e["set"]} for name, e in entries.items()}
    (mini / "dataset.json").write_text(json.dumps(bare))
    table = read_format("auto", mini).table
    assert table[["path", "subject", "source", "split"]].equals(told[["path", "subject", "source", "split"]])
    assert table["quality"].isna().all()


def test_published_names(tmp_path):
    names = {
        "method_B/1224068/1224068_C/1368666_1224068_C_003.mp4": ("fake", "train"),
        "original_videos/1224068/1224068_C_000.mp4": ("real", "train"),
    }
    entries = {name: {"label": label, "set": group} for name, (label, group) in names.items()}
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    table = read_format("auto", tmp_path).table
    assert table["subject"].tolist() == ["dfdcp_1224068+dfdcp_1368666", "dfdcp_1224068"]
    assert table["source"].tolist() == ["dfdcp_1224068_C"] * 2
    assert table["split"].tolist() == ["train", "train"]  # two people are too few to carve from


def test_a_videos_level_below_the_folders(mini):
    before = read_format("auto", mini).table
    for folder in ("method_A", "method_B", "original_videos"):
        (mini / folder).rename(mini / "kept")
        (mini / folder).mkdir()
        (mini / "kept").rename(mini / folder / "videos")
    manifest = read_format("auto", mini)
    assert not len(manifest.missing_files())
    assert manifest.table["path"].str.replace("/videos/", "/").tolist() == before["path"].tolist()


def test_an_index_that_names_the_videos_level_itself(mini, tmp_path):
    for top in ("method_A", "method_B", "original_videos"):
        (tmp_path / top / "videos").mkdir(parents=True)
    entries = json.loads((mini / "dataset.json").read_text())
    entries = {name.replace("/", "/videos/", 1): entry for name, entry in entries.items()}
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    assert set(read_format("dfdc_preview", tmp_path).table["path"]) == set(entries)


def test_missing_videos_are_listed(mini):
    path = "original_videos/643049/643049_A_000.mp4"
    (mini / path).unlink()
    manifest = read_format("auto", mini)
    assert len(manifest) == 32 and manifest.missing_files().table["path"].tolist() == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"method_A/1/1_A/2_1_A_0.mp4": ', "is not valid JSON"),
        ('{"method_A/1/1_A/2_1_A_0.mp4": {"label": "FAKE", "set": "train"}}', "has no label real or fake"),
        ('{"method_A/1/1_A/2_1_A_0.mp4": {"label": "fake", "set": "val"}}', "has the set 'val'"),
        ('{"method_A/1/1_A/2_1_A_0.mp4": {"label": "real", "set": "test"}}', "contradicts its folder"),
        ('{"original_videos/1/1_A_0.mp4": {"label": "fake", "set": "test"}}', "contradicts its folder"),
        ("{}", "lists no clips"),
    ],
)
def test_damaged_index_is_named(tmp_path, content, message):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_format("dfdc_preview", tmp_path)


def test_other_json_is_not_taken_for_it(tmp_path):
    with pytest.raises(DataError, match="has no dataset.json of the DFDC preview"):
        read_format("dfdc_preview", tmp_path)
    (tmp_path / "dataset.json").write_text('{"images/1.png": {"label": "fake"}}')
    with pytest.raises(DataError, match="has none of the layouts"):
        detect_format(tmp_path)
