import gzip
from pathlib import Path

import pytest

from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

shared = Path(__file__).resolve().parents[2].parent / "shared"
LINES = {
    "train.trn": "LA_0079 LA_T_1 - - bonafide\nLA_0079 LA_T_2 - A01 spoof\n",
    "dev.trl": "LA_0069 LA_D_1 - - bonafide\n",
    "eval.trl": "LA_0039 LA_E_1 - A11 spoof\n",
}


def write_protocols(folder, lines=LINES, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in lines.items():
        name = f"ASVspoof2019.LA.cm.{ending}.txt"
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("protocols", "root", "prefix"),
    [
        ("LA/ASVspoof2019_LA_cm_protocols", ".", "LA/"),
        ("LA/ASVspoof2019_LA_cm_protocols", "LA", ""),
        ("LA/ASVspoof2019_LA_cm_protocols", "LA/ASVspoof2019_LA_cm_protocols", ""),
        ("protocols", "protocols", ""),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_layouts(tmp_path, protocols, root, prefix, packed):
    write_protocols(tmp_path / protocols, packed=packed)
    assert detect_format(tmp_path / root) == "asvspoof2019_la"
    manifest = read_format("auto", tmp_path / root)
    table = manifest.table.set_index("utterance")
    assert table.loc["LA_T_2", "path"] == f"{prefix}ASVspoof2019_LA_train/flac/LA_T_2.flac"
    assert table["split"].to_dict() == {
        "LA_T_1": "train",
        "LA_T_2": "train",
        "LA_D_1": "val",
        "LA_E_1": "test",
    }
    assert table["label"].to_dict() == {"LA_T_1": 0, "LA_T_2": 1, "LA_D_1": 0, "LA_E_1": 1}
    assert table["audio_label"].equals(table["label"].rename("audio_label"))
    assert table.loc["LA_E_1", ["subject", "method", "kind"]].tolist() == ["LA_0039", "A11", "audio"]
    assert table["method"].isna().sum() == 2 and table["visual_label"].isna().all()
    assert "1 bona fide and 1 spoofed trials, where the publisher has 2580 and 22800" in manifest.notes[0]


def test_files_are_found_from_the_protocol_folder(tmp_path):
    protocols = tmp_path / "ASVspoof2019_LA_cm_protocols"
    write_protocols(protocols)
    file = tmp_path / "ASVspoof2019_LA_dev" / "flac" / "LA_D_1.flac"
    file.parent.mkdir(parents=True)
    file.touch()
    assert len(read_format("auto", protocols).missing_files()) == 3


def test_missing_protocol_is_said_and_damaged_line_is_named(tmp_path):
    write_protocols(tmp_path, {"dev.trl": LINES["dev.trl"]})
    manifest = read_format("asvspoof2019_la", tmp_path)
    assert len(manifest) == 1 and sum("part left out" in note for note in manifest.notes) == 2
    write_protocols(tmp_path, {"dev.trl": LINES["dev.trl"] + "\nLA_0069 LA_D_2 - bonafide\n"})
    with pytest.raises(DataError, match="line 3: expected"):
        read_format("asvspoof2019_la", tmp_path)
    write_protocols(tmp_path, {"dev.trl": "LA_0069 LA_D_2 - - genuine\n"})
    with pytest.raises(DataError, match="line 1: expected"):
        read_format("asvspoof2019_la", tmp_path)
    with pytest.raises(DataError, match="no protocol"):
        (tmp_path / "empty").mkdir()
        read_format("asvspoof2019_la", tmp_path / "empty")


def test_a_speaker_on_both_sides_is_a_leak(tmp_path):
    write_protocols(tmp_path, LINES | {"dev.trl": "LA_0079 LA_D_1 - - bonafide\n"})
    with pytest.raises(DataError, match="LA_0079 in train and val"):
        read_format("asvspoof2019_la", tmp_path)


def test_published_counts():
    root = shared / "indexes" / "asvspoof2019_la"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    manifest = read_format("auto", root)
    counts = manifest.table.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("train", 0): 2580, ("train", 1): 22800, ("val", 0): 2548, ("val", 1): 22296,
        ("test", 0): 7355, ("test", 1): 63882,
    }  # fmt: skip
    assert manifest.notes == []
    attacks = manifest.table.groupby("split")["method"].unique()
    assert set(attacks["train"].dropna()) == {f"A{i:02d}" for i in range(1, 7)}
    assert set(attacks["test"].dropna()) == {f"A{i:02d}" for i in range(7, 20)}
