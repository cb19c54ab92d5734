"""FakeAVCeleb, LAV-DF and AV-Deepfake1M: readers, and miniatures of them and of DFDC."""

import json
from pathlib import Path

import pandas as pd
import pytest

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
HEADER = "source,target1,target2,method,category,type,race,gender,path,"


class Blank:
    """Stands for the recordings of a miniature: the files are empty."""

    seed = 0

    def restart(self):
        self.made = {}

    def video(self, path, subject, kind="genuine", periods=None, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
        self.made[path.as_posix().split(".unfinished/")[1]] = kind


def by_path(manifest):
    return manifest.table.set_index("path")


# -- FakeAVCeleb -------------------------------------------------------------


def row(source, t1, t2, method, category, kind, name, group="African,men"):
    folder = f"FakeAVCeleb/{kind}/{group.replace(',', '/')}/{source}"
    return f"{source},{t1},{t2},{method},{category},{kind},{group},{name},{folder}"


ROWS = [
    row("id00076", "-", "-", "real", "A", "RealVideo-RealAudio", "00109.mp4"),
    row("id00076", "-", "-", "rtvc", "B", "RealVideo-FakeAudio", "00109_fake.mp4"),
    row("id00076", "id00166", "-", "faceswap", "C", "FakeVideo-RealAudio", "00109_id00166_x_faceswap.mp4"),
    row("id00166", "id00076", "4", "wav2lip", "D", "FakeVideo-FakeAudio", "00010_4_id00076_wavtolip.mp4"),
]


def write_csv(folder, rows=ROWS, header=HEADER):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta_data.csv").write_text("\n".join([header, *rows]) + "\n")


def test_fakeavceleb_labels_people_and_nameless_column(tmp_path):
    write_csv(tmp_path)
    table = by_path(read_format("auto", tmp_path))
    assert detect_format(tmp_path) == "fakeavceleb"
    assert table[["label", "visual_label", "audio_label"]].values.tolist() == [
        [0, 0, 0],
        [1, 0, 1],
        [1, 1, 0],
        [1, 1, 1],
    ]
    swap = table.loc["FakeVideo-RealAudio/African/men/id00076/00109_id00166_x_faceswap.mp4"]
    assert swap[["subject", "source", "method", "race", "gender"]].tolist() == [
        "id00076+id00166", "id00076", "faceswap", "African", "men",
    ]  # fmt: skip
    assert table["subject"].iloc[3] == "id00166+id00076"  # target2 "4" is no person
    assert pd.isna(table["method"].iloc[0])
    write_csv(tmp_path / "above" / "FakeAVCeleb")
    below = read_format("auto", tmp_path / "above").table["path"].tolist()
    assert below == [f"FakeAVCeleb/{path}" for path in table.index]


def test_fakeavceleb_file_listed_twice_is_one(tmp_path):
    write_csv(tmp_path, [*ROWS, ROWS[3].replace(",wav2lip,", ",faceswap-wav2lip,"), ROWS[0]])
    manifest = read_format("auto", tmp_path)
    assert len(manifest) == 4 and manifest.table["method"].iloc[3] == "wav2lip"
    assert "2 files were listed again, 1 of them with another method" in manifest.notes[0]


def test_fakeavceleb_people_never_cross_splits_and_groups_are_in_all(tmp_path):
    rows = []
    for group in ("African,men", "Asian (East),women"):
        start = 100 if group.startswith("Asian") else 0
        for person in range(start, start + 20):
            name, other = f"id{person:05d}", f"id{start + (person + 7) % 20:05d}"
            rows.append(row(name, "-", "-", "real", "A", "RealVideo-RealAudio", "1.mp4", group))
            rows.append(row(name, "-", "-", "rtvc", "B", "RealVideo-FakeAudio", "1_fake.mp4", group))
            rows.append(row(name, other, "-", "wav2lip", "C", "FakeVideo-RealAudio", f"1_{other}.mp4", group))
    write_csv(tmp_path, rows)
    manifest = read_format("auto", tmp_path)  # its check refuses leaks of subject and source
    table = manifest.table
    people = table.assign(person=table["subject"].str.split("+")).explode("person").dropna(subset=["split"])
    assert people.groupby("person")["split"].nunique().max() == 1
    real = table[table["label"] == 0]
    assert real["split"].notna().all()
    counts = real.groupby(["race", "split"]).size().unstack()
    assert counts.values.tolist() == [[3, 14, 3], [3, 14, 3]]
    apart = table["split"].isna()
    assert 0 < apart.sum() < 40 and table.loc[apart, "subject"].str.contains("+", regex=False).all()
    assert f"{apart.sum()} clips show people of different splits" in manifest.notes[-1]
    assert table["split"].tolist() == read_format("auto", tmp_path).table["split"].tolist()
    assert (
        table["split"].fillna("").tolist()
        != read_format("auto", tmp_path, seed=1).table["split"].fillna("").tolist()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (ROWS[0].replace(",A,", ",D,"), "line 6: category 'D' contradicts the type RealVideo-RealAudio"),
        (
            ROWS[0].replace("RealVideo-RealAudio,", "RealVideo-Realaudio,"),
            "line 6: the type 'RealVideo-Realaudio' is none",
        ),
        (ROWS[0].rpartition(",")[0], "line 6: expected ten fields"),
    ],
)
def test_fakeavceleb_damaged_rows_are_named(tmp_path, wrong, message):
    write_csv(tmp_path, [*ROWS, wrong])
    with pytest.raises(DataError, match=message):
        read_format("fakeavceleb", tmp_path)


def test_fakeavceleb_list_is_inverted_once(tmp_path):
    folder = "African/men/id00076"
    lines = [
        f"RealVideo-RealAudio/{folder}/00109.mp4 1",
        f"FakeVideo-RealAudio/{folder}/00109_id00166_KrNn-a_faceswap.mp4 0",
        f"FakeVideo-FakeAudio/{folder}/00109_id00476_wavtolip.mp4 0",
        f"FakeVideo-FakeAudio/{folder}/00109_10_id00476_wavtolip.mp4 0",
    ]
    (tmp_path / "file_list.txt").write_text("\n".join(lines))
    manifest = read_format("auto", tmp_path)
    assert manifest.table["label"].tolist() == [0, 1, 1, 1]
    assert manifest.table["method"].fillna("?").tolist() == ["?", "faceswap", "wav2lip", "?"]
    assert any("1 fakes have no method" in note for note in manifest.notes)
    for wrong, message in (
        (lines[0].replace(" 1", " 0"), r"label 0 \(1 = real\) contradicts RealVideo-RealAudio"),
        (lines[1].replace("African/", ""), "expected `TYPE/RACE/GENDER"),
    ):
        (tmp_path / "file_list.txt").write_text("\n".join([*lines, wrong]))
        with pytest.raises(DataError, match=f"line 5: {message}"):
            read_format("fakeavceleb", tmp_path)
    (tmp_path / "file_list.txt").write_text("RealVideo-RealAudio/nothing here\n")
    with pytest.raises(DataError, match="has no index of FakeAVCeleb"):
        read_format("fakeavceleb", tmp_path)


def test_fakeavceleb_published_counts():
    root = SHARED / "indexes" / "fakeavceleb"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    manifest = read_format("auto", root)
    table = manifest.table
    assert len(table) == 21_544 and int((table["label"] == 0).sum()) == 500
    assert table["type"].value_counts().to_dict() == {
        "FakeVideo-FakeAudio": 10_835, "FakeVideo-RealAudio": 9_709,
        "RealVideo-RealAudio": 500, "RealVideo-FakeAudio": 500,
    }  # fmt: skip
    assert not any("where the publisher has" in note for note in manifest.notes)
    real = table[table["label"] == 0].groupby("split").size().to_dict()
    assert real == {"train": 350, "val": 75, "test": 75}
    assert len(table[table["split"].notna()].groupby(["split", "race", "gender", "label"])) == 3 * 10 * 2


# -- LAV-DF -------------------------------------------------------------


def lavdf_entry(file, original=None, video=False, audio=False, **more):
    periods = [[1.0, 1.5]] if video or audio else []
    return {
        "file": file, "n_fakes": len(periods), "fake_periods": periods, "duration": 4.224,
        "original": original, "modify_video": video, "modify_audio": audio, "split": file.split("/")[0],
        "video_frames": 103, **more,
    }  # fmt: skip


LAVDF = [
    lavdf_entry("train/000000.mp4"),
    lavdf_entry("train/000001.mp4", "train/000000.mp4", video=True),
    lavdf_entry("dev/000002.mp4", audio=True),
    lavdf_entry("test/000003.mp4", video=True, audio=True),
]


@pytest.mark.parametrize("name", ["metadata.json", "metadata.min.json"])
def test_lavdf(tmp_path, name):
    more = {"transcript": "x" * 5000, "timestamps": [["a", 0.1, 0.2]]} if name == "metadata.json" else {}
    (tmp_path / name).write_text(json.dumps([more | entry for entry in LAVDF]))
    assert detect_format(tmp_path) == "lavdf"
    manifest = read_format("auto", tmp_path)
    table = by_path(manifest)
    assert table["split"].tolist() == ["train", "train", "val", "test"]
    assert table[["label", "visual_label", "audio_label"]].values.tolist() == [
        [0, 0, 0],
        [1, 1, 0],
        [1, 0, 1],
        [1, 1, 1],
    ]
    assert table["source"].tolist()[:3] == ["train/000000.mp4", "train/000000.mp4", "dev/000002.mp4"]
    assert [json.loads(text) for text in table["fake_periods"]] == [
        [],
        [[1.0, 1.5]],
        [[1.0, 1.5]],
        [[1.0, 1.5]],
    ]
    assert table["method"].fillna("").tolist() == [
        "",
        "modify_video",
        "modify_audio",
        "modify_video+modify_audio",
    ]
    assert "transcript" not in table and table["subject"].isna().all()
    assert "2/1/1 clips in train/dev/test, where the publisher has 78703/31501/26100" in manifest.notes[1]


def test_lavdf_odd_and_damaged_entries(tmp_path):
    def read(*entries):
        (tmp_path / "metadata.min.json").write_text(json.dumps([*LAVDF, *entries]))
        return read_format("lavdf", tmp_path)

    assert any(
        "1 clips are marked as modified without" in n
        for n in read(lavdf_entry("test/1.mp4", video=True) | {"fake_periods": []}).notes
    )
    good = lavdf_entry("test/1.mp4")
    for change, message in (
        ({"split": "validation"}, "has the split 'validation'"),
        ({"modify_video": "false"}, "modify_video 'false'"),
        ({"fake_periods": [[2.0, 1.0]]}, r"fake periods \[\[2.0, 1.0\]\]"),
        ({"fake_periods": [1.0, 2.0]}, "fake periods"),
    ):
        with pytest.raises(DataError, match=message):
            read(good | change)
    with pytest.raises(DataError, match="entry 4 lacks modify_audio"):
        read({key: value for key, value in good.items() if key != "modify_audio"})
    (tmp_path / "metadata.min.json").write_text(json.dumps(LAVDF)[:-5])
    with pytest.raises(DataError, match="is not valid JSON"):
        read_format("lavdf", tmp_path)
    (tmp_path / "metadata.min.json").write_text('[{"file": "a.mp4"}]')
    with pytest.raises(DataError, match="has no index of LAV-DF"):
        read_format("lavdf", tmp_path)


# -- AV-Deepfake1M -------------------------------------------------------------


def avdf_entry(file, kind, split="train", **more):
    periods = [] if kind == "real" else [[0.5, 1.0]]
    return {
        "file": file, "original": None if kind == "real" else file.rpartition("/")[0] + "/real.mp4",
        "split": split, "modify_type": kind, "audio_model": "vits", "fake_segments": periods,
        "audio_fake_segments": periods, "visual_fake_segments": periods, "video_frames": 100,
        "audio_frames": 64000,
    } | more  # fmt: skip


KINDS = {
    "real": (0, 0),
    "visual_modified": (1, 0),
    "audio_modified": (0, 1),
    "both_modified": (1, 1),
    "both-modified": (1, 1),
}


def check_avdf_labels(table):
    for kind, (visual, audio) in KINDS.items():
        clip = table.loc[f"train/id00012/vid/00001/{kind}.mp4"]
        assert (clip["visual_label"], clip["audio_label"], clip["label"]) == (
            visual,
            audio,
            visual or audio,
        ), kind
        assert clip["subject"].partition("@")[0] == "id00012" and clip["source"] == "id00012/vid/00001"
        # Periods stand under both streams in the data; they are kept for the manipulated one.
        assert clip["visual_fake_periods"] == ("[[0.5, 1.0]]" if visual else "[]")
        assert clip["audio_fake_periods"] == ("[[0.5, 1.0]]" if audio else "[]")
        assert clip["fake_periods"] == ("[]" if kind == "real" else "[[0.5, 1.0]]")
    both = [
        table.loc[f"train/id00012/vid/00001/{kind}.mp4", "method"]
        for kind in ("both_modified", "both-modified")
    ]
    assert both == ["both_modified", "both_modified"]


def test_avdeepfake1m_list_and_unlabelled_test(tmp_path):
    entries = [avdf_entry(f"id00012/vid/00001/{kind}.mp4", kind) for kind in KINDS]
    (tmp_path / "train_metadata.json").write_text(json.dumps(entries))
    val = [
        avdf_entry("id00012/other/00001/real.mp4", "real", "val"),
        avdf_entry("id00013/v/00001/real.mp4", "real", "val"),
    ]
    (tmp_path / "val_metadata.json").write_text(json.dumps(val))
    (tmp_path / "test_files.txt").write_text("id09999/v/00001/000001.mp4\n\n")
    assert detect_format(tmp_path) == "avdeepfake1m"
    manifest = read_format("auto", tmp_path)
    table = by_path(manifest)
    check_avdf_labels(table)
    test = table.loc["test/id09999/v/00001/000001.mp4"]
    assert (
        test["split"] == "test"
        and test[["label", "visual_label", "audio_label", "fake_periods"]].isna().all()
    )
    assert test["file"] == "id09999/v/00001/000001.mp4" and table["split"].value_counts()["val"] == 2
    assert "1 test clips have no labels" in manifest.notes[0]
    # A person of train is in val too: the publisher's split is kept, and it is said.
    assert any("id00012" in note for note in manifest.notes[1:])


@pytest.mark.parametrize("plus", [False, True])
def test_avdeepfake1m_one_file_per_clip(tmp_path, plus):
    folder, collection = (tmp_path / "train", "vox_celeb_2/") if plus else (tmp_path / "train_metadata", "")
    for kind in KINDS:
        file = f"{collection}id00012/vid/00001/{kind}.mp4"
        place = (folder / file).with_suffix(".json")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(avdf_entry(file, kind)))
    assert detect_format(tmp_path) == "avdeepfake1m"
    table = by_path(read_format("auto", tmp_path))
    assert len(table) == 5 and all(path.startswith(f"train/{collection}id00012") for path in table.index)
    check_avdf_labels(table.rename(index=lambda path: path.replace("vox_celeb_2/", "")))
    place.write_text("{}")
    with pytest.raises(DataError, match="has no modify_type"):
        read_format("avdeepfake1m", tmp_path)
    place.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_format("avdeepfake1m", tmp_path)


def test_avdeepfake1m_lists_of_plus_and_damage(tmp_path):
    for name in ("A", "B"):
        (tmp_path / f"test{name}").mkdir()
        (tmp_path / f"test{name}_files.txt").write_text(f"{name}0001.mp4\n")
    assert read_format("auto", tmp_path).table["path"].tolist() == ["testA/A0001.mp4", "testB/B0001.mp4"]
    entry = avdf_entry("id00012/vid/00001/a.mp4", "video_modified")
    (tmp_path / "train_metadata.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError, match="modify_type 'video_modified', expected real, visual_modified"):
        read_format("avdeepfake1m", tmp_path)
    (tmp_path / "train_metadata.json").write_text('{"modify_type": "real"}')
    with pytest.raises(DataError, match="is no list of clips"):
        read_format("avdeepfake1m", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no index of AV-Deepfake1M"):
        read_format("avdeepfake1m", tmp_path / "empty")


# -- miniatures -------------------------------------------------------------

VISUAL, AUDIO = ("face_swap", "both"), ("voice_resynthesis", "both")


@pytest.mark.parametrize("name", ["fakeavceleb", "lavdf", "avdeepfake1m", "dfdc", "dfdc_sample", "dfdc_test"])
def test_miniatures_are_read_as_what_they_are(tmp_path, name):
    media = Blank()
    root = make_layout(name, tmp_path / "set", media=media)
    assert detect_format(root) == name.split("_")[0]
    manifest = read_format("auto", root)
    table = by_path(manifest)
    assert not len(manifest.missing_files()) and sorted(table.index) == sorted(media.made)
    known = table[table["label"].notna()]
    for path, clip in known.iterrows():
        kind = media.made[path]
        assert clip["label"] == int(kind != "genuine"), path
        if not name.startswith("dfdc"):
            assert (clip["visual_label"], clip["audio_label"]) == (int(kind in VISUAL), int(kind in AUDIO)), (
                path
            )
    counts = known.groupby(["split", "label"]).size().unstack()
    least = {"train": 6, "val": 2, "test": 3}
    expected = {"dfdc_test": ["test"], "avdeepfake1m": ["train", "val"]}.get(name, list(least))
    assert sorted(counts.index) == sorted(expected)
    assert all(counts.loc[split].min() >= least[split] for split in expected), counts
