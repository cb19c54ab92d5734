"""Manipulated copies of prepared clips: what is planned, what changes in a clip, and what does not."""

import json

import numpy as np
import pandas as pd
import pytest

from avdetect.data.manifest import Manifest, stage_label
from avdetect.data.prepare import RECORD, SCHEMA, PreparedSet, _digest
from avdetect.data.pseudo import faces, lips
from avdetect.data.pseudo.clips import manipulate, plan_copies, possible, with_copies, write_copies
from avdetect.errors import DataError
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo, save_clip

SETTINGS = ClipSettings(crop_size=64, mouth_size=24)
PER_FRAME = 640
ALL = ["visual", "audio", "lipsync"]
WITHOUT_NETWORKS = {"face": None, "voice": None}


def talking(number, mouths=40, tracks=1, sound=True):
    """A clip of noise: 3 crops and so many mouths a track, from grid frame 5 on, and sound that ends with them."""
    rng = np.random.default_rng(number)
    found = [
        FaceTrack(
            i, np.arange(3) / 4, np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.arange(3) / 4,
            rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8), 5,
            rng.integers(0, 256, (mouths, 24, 24), dtype=np.uint8),
        )
        for i in range(tracks)
    ]  # fmt: skip
    audio = rng.normal(0, 0.1, (mouths + 5) * PER_FRAME).astype(np.float32) if sound else None
    info = MediaInfo(**{name: None for name in MediaInfo.__dataclass_fields__})
    return Clip(f"{number}.mp4", "video", 2.0, info, SETTINGS, found, audio)


@pytest.fixture
def prepared(tmp_path):
    """Six talking clips of three people, one of two faces, one without sound, one that is a fake; all in val."""
    folder = tmp_path / "prepared"
    (folder / "clips").mkdir(parents=True)
    content = {"schema": SCHEMA, "sha256": _digest(SETTINGS.to_dict()), "clip_settings": SETTINGS.to_dict()}
    (folder / "settings.json").write_text(json.dumps(content))
    clips = [talking(i) for i in range(6)] + [talking(6, tracks=2), talking(7, sound=False), talking(8)]
    records = []
    for i, clip in enumerate(clips):
        save_clip(clip, folder / "clips" / f"{i}.npz")
        records.append({
            "key": f"D/{i}.mp4", "path": f"{i}.mp4", "root": "/", "status": "ok", "reason": None,
            "file": f"clips/{i}.npz", "tracks": len(clip.tracks), "crops": 3 * len(clip.tracks), "mouths": 40,
            "has_audio": clip.audio is not None, "duration_s": 2.0, "size_bytes": 1, "mtime_ns": 1,
        })  # fmt: skip
    pd.DataFrame(records, columns=list(RECORD)).to_csv(folder / "prepared.csv", index=False)
    table = pd.DataFrame({
        "path": [record["path"] for record in records], "label": [0] * 8 + [1], "split": "val",
        "subject": [f"p{i % 3}" for i in range(9)], "source": [f"s{i}" for i in range(9)],
    })  # fmt: skip
    return PreparedSet.open(folder, Manifest(table, name="D"))


def plan(prepared, modalities=ALL, count=100, seed=0):
    rows = prepared.rows("clip", "val")
    return plan_copies(rows[rows["truth"] == 0], modalities, count, seed)


def test_each_clip_is_manipulated_in_every_part_that_it_has(prepared):
    table = plan(prepared).table
    parts = table.groupby("made_of")["made_by"].agg(lambda made: {name.split()[0] for name in made})
    assert all(parts[f"D/{i}.mp4"] == {"face", "voice", "lips"} for i in range(6))
    assert parts["D/6.mp4"] == {"face", "voice"}  # of two faces either one may be the speaker
    assert parts["D/7.mp4"] == {"face"}
    assert "D/8.mp4" not in parts  # a fake is no material
    assert (table["method"].eq("pseudo:face and voice") == table["made_by"].str.contains(", ")).all()


def test_truth_of_each_part_is_known(prepared):
    table = plan(prepared).table
    made = table["made_by"]
    assert (table["label"] == 1).all()
    assert (table["visual_label"] == made.str.contains("face").astype(int)).all()
    heard = table["made_of"] != "D/7.mp4"
    assert (table["audio_label"][heard] == made[heard].str.contains("voice").astype(int)).all()
    assert table["audio_label"][~heard].isna().all()
    for stage, part in (("visual", "face"), ("audio", "voice"), ("lipsync", "lips")):
        truth = stage_label(table[heard], stage)
        assert (truth == made[heard].str.contains(part).astype(int)).all(), stage


def test_copies_stay_in_the_split_source_and_subject_of_their_clip(prepared):
    table = plan(prepared).table.set_index("made_of")
    own = prepared.table.set_index("key").loc[table.index]
    for column in ("split", "source", "subject", "dataset", "kind"):
        assert (table[column] == own[column]).all(), column


def test_all_kinds_that_need_no_networks_are_about_equally_frequent(prepared):
    made = plan(prepared).table["made_by"]
    counts = made[made.str.startswith("lips")].value_counts()
    assert len(counts) == len(lips.KINDS) and counts.max() - counts.min() <= 1
    drawn = made.str.extract(r"face (\w+)")[0].dropna().value_counts()
    assert set(drawn.index) == set(faces.KINDS) - {"autoencoder"} and drawn.max() - drawn.min() <= 1


def test_other_faces_and_voices_come_from_other_people_and_other_moments_from_the_same(prepared):
    table = plan(prepared).table
    subject = prepared.table.set_index("key")["subject"]
    for name, same in (("face identity", False), ("lips speaker", False), ("lips moment", True)):
        rows = table[table["made_by"].str.contains(name)]
        assert len(rows) and rows["made_with"].notna().all()
        equal = subject.loc[rows["made_of"]].to_numpy() == subject.loc[rows["made_with"]].to_numpy()
        assert (equal == same).all() and (rows["made_with"] != rows["made_of"]).all(), name
    assert table[table["made_by"].str.contains("lips shift")]["made_with"].isna().all()


def test_a_lone_person_lends_nobody_a_face(prepared):
    alone = prepared.table["key"].isin(["D/0.mp4", "D/3.mp4"])
    few = PreparedSet(prepared.folder, prepared.settings, prepared.table[alone])
    made = plan(few).table["made_by"]
    assert not made.str.contains("identity|speaker").any() and made.str.contains("lips moment").any()


def test_the_clips_that_allow_most_come_first_and_no_more_than_asked(prepared):
    table = plan(prepared, count=4).table
    assert table["made_of"].nunique() == 4 and set(table["made_of"]) < {f"D/{i}.mp4" for i in range(6)}
    assert len(table) == 16


def test_a_plan_follows_from_its_seed(prepared):
    first, again, other = (plan(prepared, seed=seed).table for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first["made_by"].equals(other["made_by"])


def test_only_parts_that_are_judged_are_manipulated(prepared):
    assert set(plan(prepared, ["audio"]).table["made_by"].str.split().str[0]) == {"voice"}
    assert not possible(prepared.table, ["audio"])[["face", "lips"]].any(axis=None)


def test_nothing_to_manipulate_is_said(prepared):
    silent = prepared.table["key"] == "D/7.mp4"
    few = PreparedSet(prepared.folder, prepared.settings, prepared.table[silent])
    with pytest.raises(DataError, match="none of 1 genuine clips has what fakes for audio"):
        plan(few, ["audio"])


@pytest.mark.parametrize("kind", [kind for kind in faces.KINDS if kind not in faces.NEEDS])
def test_a_manipulated_face_leaves_the_sound_and_all_else(kind):
    clip = talking(0, tracks=2)
    made = manipulate(clip, f"face {kind}", np.random.default_rng(0))
    assert (made.tracks[0].crops != clip.tracks[0].crops).any()
    assert (made.tracks[1].crops == clip.tracks[1].crops).all() and (made.audio == clip.audio).all()
    assert (made.tracks[0].mouths != clip.tracks[0].mouths).any() == (kind == "mouth")
    assert made.tracks[0].crops.shape == clip.tracks[0].crops.shape


def test_another_face_is_blended_from_the_other_clip():
    clip, other = talking(0), talking(1)
    made = manipulate(clip, "face identity", np.random.default_rng(0), other=other)
    assert (made.tracks[0].crops != clip.tracks[0].crops).any()


def test_a_manipulated_voice_leaves_the_picture():
    clip = talking(0)
    made = manipulate(clip, "voice griffin_lim", np.random.default_rng(0))
    assert made.audio.shape == clip.audio.shape and (made.audio != clip.audio).mean() > 0.9
    assert (made.tracks[0].crops == clip.tracks[0].crops).all()
    assert (made.tracks[0].mouths == clip.tracks[0].mouths).all()


@pytest.mark.parametrize("kind", lips.KINDS)
def test_out_of_sync_changes_the_lips_or_the_sound_during_them(kind):
    clip = talking(0)
    made = manipulate(clip, f"lips {kind}", np.random.default_rng(0), other=talking(1))
    still = kind in ("frozen", "looped")
    assert (made.tracks[0].mouths != clip.tracks[0].mouths).any() == still
    assert (made.audio[5 * PER_FRAME :] != clip.audio[5 * PER_FRAME :]).any() == (not still)
    assert (made.audio[: 5 * PER_FRAME] == clip.audio[: 5 * PER_FRAME]).all()
    assert (made.tracks[0].crops == clip.tracks[0].crops).all()


def test_face_and_voice_together():
    clip = talking(0)
    made = manipulate(clip, "face smooth, voice lpc", np.random.default_rng(0))
    assert (made.tracks[0].crops != clip.tracks[0].crops).any() and (made.audio != clip.audio).any()


@pytest.mark.parametrize(
    ("clip", "made_by", "sentence"),
    [
        (talking(0, tracks=0), "face smooth", "shows no face"),
        (talking(0, sound=False), "voice lpc", "has no sound"),
        (talking(0, tracks=2), "lips shift", "no single talking face"),
        (talking(0, mouths=10), "lips shift", "no single talking face"),
        (talking(0), "hair blond", "no part 'hair'"),
    ],
)
def test_a_part_that_is_not_there_is_said(clip, made_by, sentence):
    with pytest.raises(DataError, match=sentence):
        manipulate(clip, made_by, np.random.default_rng(0))


def test_written_copies_are_read_as_prepared_clips(prepared, tmp_path):
    made, folder = plan(prepared, count=1), tmp_path / "copies"
    told = []
    write_copies(prepared, made, folder, 0, WITHOUT_NETWORKS, report=lambda *counts: told.append(counts))
    assert told[-1] == (4, 4)
    joined = with_copies(prepared, {folder: made})
    assert len(joined.table) == len(prepared.table) + 4 and joined.table["key"].is_unique
    rows = joined.rows("clip", "val")
    copies = rows[rows["made_of"].notna()]
    genuine = prepared.load(prepared.table.set_index("key").loc[copies["made_of"].iloc[0]])
    for _, row in copies.iterrows():
        clip = joined.load(row)
        face = (clip.tracks[0].crops != genuine.tracks[0].crops).any()
        mouths = (clip.tracks[0].mouths != genuine.tracks[0].mouths).any()
        sound = (clip.audio != genuine.audio).any()
        assert face == ("face" in row["made_by"])
        assert sound == ("voice" in row["made_by"]) or "lips" in row["made_by"]
        assert mouths or sound or face


def test_a_killed_run_goes_on_and_gives_the_same(prepared, tmp_path):
    made = plan(prepared, count=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_copies(prepared, made, whole, 0, WITHOUT_NETWORKS)
    files = sorted(path.name for path in whole.iterdir())

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_copies(prepared, made, killed, 0, WITHOUT_NETWORKS, report=stop)
    before = {path.name: path.stat().st_mtime_ns for path in killed.iterdir()}
    assert len(before) == 2
    write_copies(prepared, made, killed, 0, WITHOUT_NETWORKS)
    assert sorted(path.name for path in killed.iterdir()) == files
    assert all((killed / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
    joined = [with_copies(prepared, {folder: made}) for folder in (whole, killed)]
    for key in made.keys:
        first, second = (one.load(one.table.set_index("key").loc[key]) for one in joined)
        assert (first.audio == second.audio).all()
        assert (first.tracks[0].crops == second.tracks[0].crops).all()
        assert (first.tracks[0].mouths == second.tracks[0].mouths).all()


def test_a_clip_that_cannot_be_made_is_named(prepared, tmp_path):
    made = plan(prepared, ["visual"], count=1)
    key = made.table["made_of"].iloc[0]
    prepared.clip_path(prepared.table.set_index("key").loc[key]).write_bytes(b"no clip")
    with pytest.raises(DataError, match="could not be made of .*damaged"):
        write_copies(prepared, made, tmp_path / "copies", 0, WITHOUT_NETWORKS)


def test_copies_of_clips_that_are_not_there_are_refused(prepared, tmp_path):
    made = plan(prepared, count=1)
    gone = prepared.table["key"] != made.table["made_of"].iloc[0]
    few = PreparedSet(prepared.folder, prepared.settings, prepared.table[gone])
    with pytest.raises(DataError, match="which is not prepared"):
        with_copies(few, {tmp_path: made})
