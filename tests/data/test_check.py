"""`check_manifest`: every planted mistake that rows or files can show is found, and a sound set is left alone."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from avdetect.data.check import Finding, check_manifest
from avdetect.data.demo.miniature import Miniature
from avdetect.data.formats import (
    aiface,
    asvspoof2019_la,
    asvspoof2021,
    avdeepfake1m,
    celeb_df,
    ciplab,
    dfdc,
    dfdc_preview,
    faceforensics,
    faces140k,
    fakeavceleb,
    lavdf,
    wilddeepfake,
)
from avdetect.data.manifest import Manifest
from avdetect.data.published import PUBLISHED
from avdetect.media.facts import trial_read

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sound set: videos, sounds, pictures and folders of frames, two of each split and class."""
    root = tmp_path_factory.mktemp("set")
    media = Miniature()
    for split, subject in (("train", 0), ("test", 1)):
        for fake in (False, True):
            folder = root / split / ("fake" if fake else "real")
            media.video(folder / "clip.mp4", subject, "voice_resynthesis" if fake else "genuine")
            media.speech(folder / "voice.flac", subject, fake)
            media.image(folder / "face.jpg", subject, False)
            media.images(folder / "frames", subject, False, 2)
    return root


@pytest.fixture
def root(files, tmp_path):
    return Path(shutil.copytree(files, tmp_path / "set"))


def listed(root, **changed):
    paths = [p.relative_to(root).as_posix() for p in sorted(root.rglob("*.*")) if p.suffix != ".png"]
    paths += sorted(p.relative_to(root).as_posix() for p in root.rglob("frames"))
    table = pd.DataFrame({"path": paths})
    table["split"] = table["path"].str.split("/").str[0]
    table["label"] = table["path"].str.contains("/fake/").astype(int)
    table["source"] = table["split"] + table["path"].str.rpartition("/")[2]
    table.loc[table["path"].str.endswith("frames"), "kind"] = "video"
    return Manifest(table.assign(**changed), root=root, name="set")


def found(manifest, severity=None):
    findings = check_manifest(manifest, workers=0)
    return {f.check: f for f in findings if f.severity == severity}, findings


def test_a_sound_set_has_no_errors_and_no_warnings(root):
    findings = check_manifest(listed(root), workers=0)
    assert {(f.severity, f.check) for f in findings} == {("note", "balance")}
    assert [f.message for f in findings] == ["set test: 4 genuine, 4 fake", "set train: 4 genuine, 4 fake"]


def test_missing_and_unreadable_files_are_told_by_name(root):
    (root / "train/real/clip.mp4").unlink()
    whole = (root / "train/fake/clip.mp4").read_bytes()
    (root / "train/fake/clip.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "train/fake/voice.flac").write_bytes(b"")
    picture = (root / "test/fake/face.jpg").read_bytes()
    (root / "test/fake/face.jpg").write_bytes(picture[: len(picture) // 2])
    (root / "test/real/frames/001.png").write_bytes(b"nothing")
    manifest = listed(root)
    manifest = Manifest(
        pd.concat([manifest.table, manifest.table.head(1).assign(path="gone.mp4")]), root=root, name="set"
    )
    errors, findings = found(manifest, "error")
    assert errors["missing"].examples == ("set/gone.mp4",)
    told = " ".join(errors["unreadable"].examples)
    assert errors["unreadable"].rows == 4 and [f.severity for f in findings[:2]] == ["error", "error"]
    for path in ("train/fake/clip.mp4", "train/fake/voice.flac", "test/fake/face.jpg", "test/real/frames"):
        assert f"set/{path} (" in told


def test_a_video_whose_end_is_gone_is_found(tmp_path):
    import av

    whole = Miniature().video(tmp_path / "whole.mp4", 0, seconds=3)
    first = {"movflags": "faststart"}  # the index before the frames: what is cut off is only frames
    with av.open(str(whole)) as source, av.open(str(tmp_path / "fast.mp4"), "w", options=first) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = (tmp_path / "fast.mp4").read_bytes()
    assert trial_read(tmp_path / "fast.mp4", "video") == []
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 3])
    manifest = Manifest(pd.DataFrame({"path": ["cut.mp4"], "label": [0]}), root=tmp_path)
    assert "the file seems truncated" in found(manifest, "warning")[0]["damaged"].examples[0]
    (tmp_path / "cut.mp4").write_bytes(content[:5000])
    assert "frames cannot be decoded" in found(manifest, "error")[0]["unreadable"].examples[0]


@pytest.mark.parametrize(
    "path, kind, words",
    [
        ("train/real/face.jpg", "video", "is a picture"),
        ("train/real/clip.mp4", "image", "is a recording"),
        ("train/real/voice.flac", "video", "sound only"),
    ],
)
def test_a_file_of_another_kind_is_no_such_file(root, path, kind, words):
    manifest = Manifest(pd.DataFrame({"path": [path], "kind": [kind], "label": [0]}), root=root)
    assert words in found(manifest, "error")[0]["unreadable"].examples[0]


def test_files_are_read_in_processes(root):
    (root / "train/fake/voice.flac").write_bytes(b"no sound")
    calls = []
    findings = check_manifest(listed(root), workers=1, progress=lambda *c: calls.append(c))
    assert calls[-1] == (16, 16)
    assert next(f for f in findings if f.check == "unreadable").rows == 1


def test_duplicates_by_content(root):
    shutil.copy(root / "train/fake/voice.flac", root / "test/fake/other.flac")
    shutil.copy(root / "train/real/clip.mp4", root / "train/real/again.mp4")
    shutil.copy(root / "test/real/face.jpg", root / "test/fake/second.jpg")
    for name in ("000.png", "001.png"):
        shutil.copy(root / "train/real/frames" / name, root / "test/real/frames" / name)
    findings = check_manifest(listed(root), workers=0)
    told = {(f.severity, f.message.split(" ", 1)[1][:20]): f for f in findings if f.check == "duplicates"}
    across = told["error", "recordings are in mor"[:20]]
    assert across.rows == 2 and any("other.flac" in example for example in across.examples)
    assert any("frames" in example for example in across.examples)
    opposed = next(f for f in findings if "both genuine and fake" in f.message)
    assert (opposed.severity, opposed.rows) == ("error", 1) and "second.jpg" in opposed.examples[0]
    inside = next(f for f in findings if "inside a split" in f.message)
    assert (inside.severity, inside.rows) == ("warning", 2)


def test_leaks_and_faults_of_the_table_are_errors(root):
    manifest = listed(root, source="one", subject=["a+b"] + ["a"] * 15, visual_label=1)
    messages = " ".join(f.message for f in check_manifest(manifest, workers=0) if f.severity == "error")
    assert "a source in more than one split" in messages and "a subject in more than one split" in messages
    assert "label is 0 although" in messages


def test_frames_dealt_at_random_without_a_source(root):
    table = pd.DataFrame(
        {
            "path": ["train/real/frames/000.png", "train/real/frames/001.png"],
            "split": ["train", "test"],
            "label": 0,
        }
    )
    warnings, _ = found(Manifest(table, root=root), "warning")
    assert "1 folders are in more than one split" in warnings["leak"].message


def test_files_elsewhere_are_told_and_paths_that_climb_are_errors(root, tmp_path):
    there = shutil.copy(root / "train/real/face.jpg", tmp_path / "away.jpg")
    table = pd.DataFrame({"path": ["train/fake/face.jpg", str(there), "../away.jpg"], "label": [1, 0, 0]})
    manifest = Manifest(table, root=root)
    warnings, findings = found(manifest, "warning")
    assert warnings["rows"].examples == (f"manifest{there}",) and "absolute paths" in warnings["rows"].message
    errors = [f.message for f in findings if f.severity == "error" and f.check == "rows"]
    assert len(errors) == 1 and errors[0].startswith("path leads out of its root")


def test_labels_that_cannot_be(root):
    manifest = listed(root, visual_label=0, audio_label=0)
    errors, _ = found(manifest, "error")
    assert "neither a fake face nor a fake voice" in errors["labels"].message
    assert not found(listed(root, visual_label=0, audio_label=0, method="out_of_sync"), "error")[0].get(
        "labels"
    )
    warnings, _ = found(listed(root, label=[pd.NA] * 3 + [0] * 13, split=["train"] * 15 + [pd.NA]), "warning")
    assert "3 rows have no label" in warnings["labels"].message
    assert "1 labelled rows are in no split" in warnings["splits"].message
    assert "only one class" in warnings["balance"].message
    errors, _ = found(Manifest(pd.DataFrame({"path": []}), root=root), "error")
    assert "no rows" in errors["rows"].message


def test_inverted_labels_are_told_by_names(root):
    manifest = listed(root)
    inverted = Manifest(manifest.table.assign(label=1 - manifest.table["label"]), root=root, name="set")
    errors, _ = found(inverted, "error")
    assert "16 of 16 names" in errors["polarity"].message and "look inverted" in errors["polarity"].message
    one = manifest.table.copy()
    one.loc[0, "label"] = 1 - one.loc[0, "label"]
    assert found(Manifest(one, root=root, name="set"), "warning")[0]["polarity"].rows == 1
    table = pd.DataFrame({"path": ["a.wav", "b.wav"], "label": [0, 1], "method": ["A01", "-"]})
    assert "look inverted" in found(Manifest(table, root=root), "error")[0]["polarity"].message


def counted(dataset, genuine, fake, **columns):
    table = pd.DataFrame({"path": [f"{i}.mp4" for i in range(genuine + fake)]})
    return Manifest(
        table.assign(label=[0] * genuine + [1] * fake, dataset=dataset, **columns), name="counted"
    )


@pytest.mark.parametrize(
    "manifest, severity, words",
    [
        (counted("Celeb-DF v2", 178, 340, split="test"), "note", "the publisher's counts"),
        (counted("Celeb-DF v2", 340, 178, split="test"), "error", "look inverted"),
        (counted("Celeb-DF v2", 177, 340, split="test"), "warning", "one row is lost"),
        (counted("FakeAVCeleb", 900, 20), "error", "look inverted"),
        (counted("FakeAVCeleb", 6, 6), "warning", "a part of the dataset"),
        (counted("AI-Face", 10, 30), "note", "a part of the dataset"),
        (counted("ASVspoof2021 LA", 1481, 13336, split="test", phase="eval"), "warning", "a part of the"),
        (counted("DFDC", 1250, 1250, split="test"), "warning", "a part of the dataset"),
    ],
)
def test_counts_against_the_publishers(manifest, severity, words):
    findings = [f for f in check_manifest(manifest, workers=0) if "publisher" in f.message]
    assert any(f.severity == severity and words in f.message for f in findings), findings
    inverted = [f for f in findings if f.check == "polarity"]
    assert bool(inverted) == (severity == "error")


def test_videos_known_by_their_file_name_alone_are_missed():
    part = {"split": "test", "quality": "c23"}
    methods = ["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]
    whole = [counted("FaceForensics++", 140, 0, **part)] + [
        counted("FaceForensics++", 0, 140, method=method, **part) for method in methods
    ]
    table = pd.concat([m.table.assign(path=f"{i}/" + m.table["path"]) for i, m in enumerate(whole)])
    assert not any("publisher" in f.message for f in check_manifest(Manifest(table), workers=0))
    collapsed = table.drop_duplicates(subset=["split", "label", "quality"], keep="first")
    told = [f.message for f in check_manifest(Manifest(collapsed), workers=0) if f.check == "published"]
    assert "FaceForensics++ test c23 Deepfakes: 1 fakes, the publisher has 140" in " ".join(told)


def test_the_publishers_lists_agree_with_the_table(tmp_path):
    """Index files of the publishers, as far as they are at hand, give the counts of the table."""
    places = {"celeb_df": "List_of_testing_videos.txt"}
    missing = [name for name, file in places.items() if not (SHARED / "indexes" / name / file).is_file()]
    if missing:
        pytest.skip(f"needs the index files of {', '.join(missing)} in {SHARED / 'indexes'}")
    lines = (SHARED / "indexes/celeb_df/List_of_testing_videos.txt").read_text().split("\n")
    labels = [line.split()[0] for line in lines if line.strip()]
    assert PUBLISHED["Celeb-DF v2"].splits["test"] == (labels.count("1"), labels.count("0"))


def test_a_finding_is_one_line_and_json(root):
    finding = Finding("error", "missing", "7 files are not there", 7, ("a", "b"))
    assert str(finding) == "error    missing     7 files are not there: a, b, …"
    assert finding.to_dict()["examples"] == ["a", "b"]


def test_the_table_has_the_names_that_readers_give():
    modules = (aiface, asvspoof2019_la, avdeepfake1m, ciplab, dfdc, dfdc_preview, faceforensics, faces140k,
               fakeavceleb, lavdf, wilddeepfake)  # fmt: skip
    names = {module.DATASET for module in modules} | {track.dataset for track in asvspoof2021.TRACKS.values()}
    names |= {f"Celeb-DF {version}" for version in celeb_df.COUNTS} | {faceforensics.DFD}
    assert names == set(PUBLISHED)


def test_the_table_has_the_counts_that_readers_compare_with():
    assert PUBLISHED["Real and Fake Face Detection"].total == ciplab.PUBLISHED
    assert PUBLISHED["DFDC preview"].total == (dfdc_preview.GENUINE, dfdc_preview.FAKE)
    assert PUBLISHED["FakeAVCeleb"].total == (fakeavceleb.GENUINE, fakeavceleb.CLIPS - fakeavceleb.GENUINE)
    assert sum(PUBLISHED["LAV-DF"].total) == sum(lavdf.COUNTS.values())
    assert sum(PUBLISHED["WildDeepfake"].total) == wilddeepfake.SEQUENCES
    for version, (real, youtube, fake) in celeb_df.COUNTS.items():
        assert PUBLISHED[f"Celeb-DF {version}"].total == (real + youtube, fake)
    for track in asvspoof2021.TRACKS.values():
        assert PUBLISHED[track.dataset].splits["test"] == (track.genuine, track.fake)
