import json
import shutil

import lmdb
import numpy as np
import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.data.formats.deepfakebench import LABELS
from avdetect.data.manifest import Manifest
from avdetect.errors import DataError, MediaError
from avdetect.media import ClipSettings, read_clip
from avdetect.media.frames import open_sequence

FFPP = "FaceForensics++/original_sequences/youtube/c23/frames/071"


def video(label, folder, frames=2, separator="\\"):
    names = [f"{folder}/{9 * k:03d}.png".replace("/", separator) for k in range(frames)]
    return {"label": label, "frames": names}


def write(root, name, content):
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps({name: content}))


def table_of(root):
    return read_format("auto", root).table.set_index("path")


def test_every_label_has_its_polarity(tmp_path):
    """FF-real and its like are 0, whatever the case of `real`; everything else is 1."""
    for number, label in enumerate(LABELS):
        write(tmp_path, f"list{number}", {label: {"test": {"v": video(label, f"X/frames/{label}")}}})
    assert detect_format(tmp_path) == "deepfakebench"
    labels = table_of(tmp_path)["label"].to_dict()
    assert len(labels) == len(LABELS)
    assert all(value == int("real" not in path.lower()) for path, value in labels.items())


@pytest.mark.parametrize("before", ["", "./datasets/", "/somebody/data/rgb/"])
@pytest.mark.parametrize("separator", ["\\", "/"])
def test_frames_are_named_from_the_datasets_folder_on(tmp_path, before, separator):
    entry = video("FF-real", before + FFPP, separator=separator)
    write(tmp_path / "preprocessing" / "dataset_json", "FaceForensics++", {
        "FF-real": {"train": {"c23": {"071": entry}}, "val": {"c23": {}}, "test": {"c23": {}}},
    })  # fmt: skip
    row = table_of(tmp_path).loc[FFPP]
    assert row[["label", "quality", "split", "dataset", "kind", "frames"]].tolist() == [
        0, "c23", "train", "FaceForensics++", "video", 2,
    ]  # fmt: skip
    assert row["subject"] == row["source"] == "ffpp_071"


def test_same_name_of_several_methods_and_compressions_stays_apart(tmp_path):
    base = "FaceForensics++/manipulated_sequences/{}/{}/frames/071_054"
    methods = {"FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures"}
    labels = {}
    for label, method in methods.items():
        levels = {c: {"071_054": video(label, base.format(method, c))} for c in ("c23", "c40")}
        labels[label] = {"train": levels}
        write(tmp_path, label, {label: {"train": levels}})  # the lists of single methods repeat the whole one
    write(tmp_path, "FaceForensics++", labels)
    table = table_of(tmp_path)
    assert len(table) == 8 and sorted(table["method"].unique()) == sorted(methods.values())
    assert set(table["subject"]) == {"ffpp_071+ffpp_054"}
    assert set(table["source"]) == {"ffpp_071"}


def test_the_same_recordings_in_the_publishers_layout_are_known_for_the_same(tmp_path):
    """Else a detector could be trained on one copy of FaceForensics++ and tested on the other."""
    write(tmp_path / "a", "FaceForensics++", {"FF-real": {"test": {"c23": {"071": video("FF-real", FFPP)}}}})
    own = tmp_path / "b/original_sequences/youtube/c23/videos/071.mp4"
    own.parent.mkdir(parents=True)
    own.touch()
    trained = read_format("faceforensics", tmp_path / "b").table.assign(split="train")
    with pytest.raises(DataError, match="a source in more than one split .*ffpp_071 in test and train"):
        Manifest.join([read_format("deepfakebench", tmp_path / "a"), Manifest(trained)])


def test_a_fake_of_uadfv_stays_with_its_genuine_video(tmp_path):
    folder = "UADFV/{}/frames/{}"
    labels = {
        "UADFV_Real": {"train": {"0000": video("UADFV_Real", folder.format("real", "0000"))}},
        "UADFV_Fake": {"test": {"0000_fake": video("UADFV_Fake", folder.format("fake", "0000_fake"))}},
    }
    write(tmp_path, "UADFV", labels)
    manifest = read_format("auto", tmp_path)
    assert manifest.table["source"].tolist() == ["uadfv_0000@train", "uadfv_0000@test"]
    assert "has 1 sources on more than one side (uadfv_0000, …)" in " ".join(manifest.notes)


def test_test_videos_are_for_the_test_alone(tmp_path):
    """Celeb-DF's test videos are in the lists of train and val as well."""
    real = {
        f"id{k}_0000": video("CelebDFv2_real", f"Celeb-DF-v2/Celeb-real/frames/id{k}_0000") for k in range(8)
    }
    fake = {
        f"id{a}_id{b}_0000": video("CelebDFv2_fake", f"Celeb-DF-v2/Celeb-synthesis/frames/id{a}_id{b}_0000")
        for a in range(8) for b in range(8) if a != b
    }  # fmt: skip
    tested = {name: entry for name, entry in (real | fake).items() if "id0" in name}
    splits = {}
    for label, videos in (("CelebDFv2_real", real), ("CelebDFv2_fake", fake)):
        own = {name: entry for name, entry in videos.items() if name in tested}
        splits[label] = {"train": videos, "val": own, "test": own}
    write(tmp_path, "Celeb-DF-v2", splits)
    manifest = read_format("auto", tmp_path)  # checked: nobody on two sides
    table = manifest.table.assign(name=manifest.table["path"].str.rpartition("/")[2]).set_index("name")
    assert set(table.index[table["split"] == "test"]) == set(tested) and len(table) == 64
    assert table[table["split"] == "val"]["label"].nunique() == 2
    assert any("15 videos are listed in several splits" in note for note in manifest.notes)
    assert any("is carved by people" in note for note in manifest.notes)
    # id1 swapped into id0 is tested, id1 is trained on: the publisher's leak is kept and named
    assert any("subjects on more than one side" in note for note in manifest.notes)
    assert "celebdf_id1" in table.loc["id0_id1_0000", "shared_between_splits"]


def test_what_is_no_video_is_left_out_and_said(tmp_path):
    """DFDC.json has one video's label and frames where val's videos should be; some lists are empty."""
    bad = video("DFDC_Real", "DFDC/test/frames/a")
    write(tmp_path, "DFDC", {
        "DFDC_Real": {"train": {"b": video("DFDC_Real", "DFDC/train/frames/b")}, "val": bad},
        "DFDC_Fake": {"test": {"c": video("DFDC_Fake", "DFDC/test/frames/c"), "d": video("DFDC_Fake", "x", 0)}},
    })  # fmt: skip
    manifest = read_format("auto", tmp_path)
    assert sorted(manifest.table["source"]) == ["dfdc_b", "dfdc_c"]
    assert any("1 entries list no frames" in note for note in manifest.notes)
    # DFDC's fakes may be in the voice alone, which frames do not show
    assert manifest.table.set_index("label")["visual_label"].fillna(-1).to_dict() == {0: 0, 1: -1}


def test_unknown_labels_contradictions_and_damage_are_errors(tmp_path):
    write(tmp_path, "New", {"New_thing": {"test": {"v": video("New_thing", "New/frames/v")}}})
    with pytest.raises(DataError, match="label 'New_thing' is none of FF-real"):
        read_format("auto", tmp_path)
    write(tmp_path, "New", {
        "UADFV_Real": {"test": {"v": video("UADFV_Real", "UADFV/frames/v")}},
        "UADFV_Fake": {"test": {"v": video("UADFV_Fake", "UADFV/frames/v")}},
    })  # fmt: skip
    with pytest.raises(DataError, match="UADFV/frames/v is listed as real and as fake"):
        read_format("auto", tmp_path)
    text = (tmp_path / "New.json").read_text()
    (tmp_path / "New.json").write_text(text[:-10])
    with pytest.raises(DataError, match="New.json is not valid JSON"):
        read_format("auto", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no list of DeepfakeBench"):
        read_format("deepfakebench", tmp_path / "empty")


def test_frames_in_folders_and_in_lmdb_are_read(miniature):
    manifest = read_format("auto", miniature("deepfakebench"))
    settings = ClipSettings(pictures="face", sampling="every", sampling_step=1)
    for dataset, part in (("FaceForensics++", "rgb/FaceForensics++/"), ("UADFV", "lmdb/UADFV_lmdb!/UADFV/")):
        row = manifest.table[manifest.table["dataset"] == dataset].iloc[0]
        assert row["path"].startswith(part)
        clip = read_clip(manifest.file_of(row), settings)
        assert clip.kind == "video" and len(clip.tracks) == 1 and clip.audio is None
        assert np.allclose(clip.tracks[0].crop_times, [0, 9 / 25, 18 / 25, 27 / 25])
    listed = manifest.table["path"]
    assert not listed.str.contains("\\", regex=False).any()


def test_lmdb_holds_what_the_folder_holds(miniature, tmp_path):
    """The same frames, unpacked, give the same clip; a folder goes before the database."""
    made = miniature("deepfakebench")
    packed = open_sequence(made / "lmdb/UADFV_lmdb!/UADFV/real/frames/0000")
    folder = tmp_path / "UADFV" / "real" / "frames" / "0000"
    folder.mkdir(parents=True)
    for name in packed.names:
        (folder / name).write_bytes(packed._read(name))
    assert packed.names == ["000.png", "009.png", "018.png", "027.png"]
    assert open_sequence(folder).info() == packed.info()
    shutil.copy(made / "dataset_json" / "UADFV.json", tmp_path)
    shutil.copytree(made / "lmdb" / "UADFV_lmdb", tmp_path / "UADFV_lmdb")
    manifest = read_format("auto", tmp_path)
    assert "UADFV/real/frames/0000" in set(manifest.table["path"]) and len(manifest.missing_files()) == 5
    shutil.rmtree(tmp_path / "UADFV")
    manifest = read_format("auto", tmp_path)
    assert manifest.table["path"].str.startswith("UADFV_lmdb!/UADFV/").all() and not len(
        manifest.missing_files()
    )
    shutil.rmtree(tmp_path / "UADFV_lmdb")
    assert len(read_format("auto", tmp_path).missing_files()) == 6


def test_keys_with_slashes_and_damaged_databases(tmp_path):
    with (
        lmdb.open(str(tmp_path / "X_lmdb"), map_size=2**20) as environment,
        environment.begin(write=True) as lot,
    ):
        for key in ("X/frames/a/000.png", "X/frames/a/deep/000.png", "X/frames/ab/000.png"):
            lot.put(key.encode(), b"no picture")
    assert open_sequence(tmp_path / "X_lmdb!/X/frames/a").names == ["000.png"]
    with pytest.raises(MediaError, match="none of 1 pictures can be decoded"):
        read_clip(tmp_path / "X_lmdb!/X/frames/a", ClipSettings(pictures="face"))
    with pytest.raises(MediaError, match="folder without numbered pictures"):
        read_clip(tmp_path / "X_lmdb!/X/frames/b")
    with pytest.raises(MediaError, match="Y_lmdb holds no lmdb database"):
        read_clip(tmp_path / "Y_lmdb!/X/frames/a")
    (tmp_path / "Z_lmdb").mkdir()
    (tmp_path / "Z_lmdb" / "data.mdb").write_bytes(b"a page that says: not found")
    with pytest.raises(MediaError, match="cannot be opened as an lmdb database"):
        read_clip(tmp_path / "Z_lmdb!/X/frames/a")
