import gzip

import pytest

from avdetect.data.demo.layouts import make_layout
from avdetect.data.formats import detect_format, read_format
from avdetect.errors import DataError

LINES = {
    "LA": [
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0009 LA_E_1000001 none loc_tx bonafide bonafide notrim eval",
        "LA_0010 LA_E_1000002 opus sin_tx - bonafide notrim progress",
        "LA_0011 LA_E_1000003 gsm mad_tx A19 spoof trim hidden",
    ],
    "DF": [
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
        "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_nonautoregressive "
        "Task1 team20 FF E",
        "TEF2 DF_E_2000014 mp3m4a vcc2020 bonafide bonafide notrim eval bonafide - - - -",
    ],
}
NAMES = {"LA": "asvspoof2021_la", "DF": "asvspoof2021_df"}


class Blank:
    """Stands for the recordings of a miniature: the files are empty."""

    seed = 0

    def restart(self):
        self.made = {}

    def speech(self, path, subject, fake, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
        self.made[path.name] = int(fake)


def write_keys(folder, track, lines=None, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines or LINES[track]) + "\n"
    if packed:
        (folder / "trial_metadata.txt.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (folder / "trial_metadata.txt").write_text(text)


def write_list(folder, track):
    folder.mkdir(parents=True, exist_ok=True)
    names = "".join(f"{line.split()[1]}\n" for line in LINES[track])
    (folder / f"ASVspoof2021.{track}.cm.eval.trl.txt").write_text(names)


@pytest.mark.parametrize("track", ["LA", "DF"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["keys/{}/CM", "{}-keys-full/keys/{}/CM", "{}/CM", "CM", "."])
def test_places_of_the_keys(tmp_path, track, packed, place):
    write_keys(tmp_path / place.format(track, track), track, packed=packed)
    assert detect_format(tmp_path) == NAMES[track]
    assert len(read_format("auto", tmp_path)) == len(LINES[track])


def test_la_columns_and_polarity(tmp_path):
    write_keys(tmp_path / "keys" / "LA" / "CM", "LA")
    manifest = read_format("auto", tmp_path)
    rows = manifest.table.set_index("utterance")
    fake, genuine = rows.loc["LA_E_9332881"], rows.loc["LA_E_1000001"]
    assert fake["path"] == "ASVspoof2021_LA_eval/flac/LA_E_9332881.flac"
    assert fake[["label", "method", "subject", "quality", "transmission", "phase"]].tolist() == [
        1, "A07", "LA_0009", "alaw", "ita_tx", "eval",
    ]  # fmt: skip
    assert rows["audio_label"].equals(rows["label"].rename("audio_label"))
    assert genuine["label"] == 0 and rows.loc[["LA_E_1000001", "LA_E_1000002"], "method"].isna().all()
    assert rows.loc["LA_E_1000003", ["trim", "phase"]].tolist() == ["trim", "hidden"]
    assert set(rows["split"]) == {"test"} and set(rows["kind"]) == {"audio"}
    assert rows["visual_label"].isna().all() and rows["source"].tolist() == rows.index.tolist()
    assert (
        "1 bona fide and 1 spoofed trials in the phase eval, where the publisher has 14816"
        in manifest.notes[0]
    )
    assert "2 trials of the phases progress and hidden" in manifest.notes[1]


def test_df_columns(tmp_path):
    write_keys(tmp_path / "keys" / "DF" / "CM", "DF")
    rows = read_format("auto", tmp_path).table.set_index("utterance")
    fake = rows.loc["DF_E_2000013"]
    assert fake[["label", "method", "quality", "corpus", "vocoder", "vcc_team", "vcc_language"]].tolist() == [
        1, "Task1-team20", "low_m4a", "vcc2020", "neural_vocoder_nonautoregressive", "team20", "E",
    ]  # fmt: skip
    genuine = rows.loc["DF_E_2000014"]
    assert genuine["label"] == 0 and genuine[["method", "vocoder", "vcc_task"]].isna().all()


def test_trial_list_alone_has_no_labels_and_keys_go_before_it(tmp_path):
    write_list(tmp_path / "ASVspoof2021_LA_eval", "LA")
    manifest = read_format("auto", tmp_path)
    assert len(manifest) == 4 and manifest.table["label"].isna().all()
    assert "4 trials without labels" in manifest.notes[0]
    inside = read_format("auto", tmp_path / "ASVspoof2021_LA_eval")
    assert inside.table["path"].iloc[0] == "flac/LA_E_9332881.flac"
    write_keys(tmp_path / "keys" / "LA" / "CM", "LA")
    assert read_format("auto", tmp_path).table["label"].tolist() == [1, 0, 0, 1]


def test_both_tracks_in_one_folder_are_told_apart(tmp_path):
    for track in LINES:
        write_keys(tmp_path / "keys" / track / "CM", track)
        assert len(read_format(NAMES[track], tmp_path)) == len(LINES[track])
    with pytest.raises(DataError, match="asvspoof2021_la, asvspoof2021_df"):
        detect_format(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim",
        "LA_0009 LA_E_1 alaw ita_tx A07 fake notrim eval",
        "LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim training",
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
    ],
)
def test_damaged_lines_are_named(tmp_path, line):
    write_keys(tmp_path / "keys" / "LA" / "CM", "LA", [*LINES["LA"], "", line])
    with pytest.raises(DataError, match="trial_metadata.txt line 6: expected `subject utterance quality"):
        read_format("asvspoof2021_la", tmp_path)


def test_damaged_list_and_empty_folder(tmp_path):
    (tmp_path / "ASVspoof2021.DF.cm.eval.trl.txt").write_text("DF_E_1\nDF_E_2 spoof\n")
    with pytest.raises(DataError, match="line 2: expected an utterance alone"):
        read_format("asvspoof2021_df", tmp_path)
    with pytest.raises(DataError, match="has no trials of ASVspoof2021 LA"):
        read_format("asvspoof2021_la", tmp_path)


@pytest.mark.parametrize("name", ["asvspoof2019_la", "asvspoof2021_la", "asvspoof2021_df"])
def test_miniatures_are_read_as_what_they_are(tmp_path, name):
    media = Blank()
    root = make_layout(name, tmp_path / "set", media=media)
    assert detect_format(root) == name
    manifest = read_format("auto", root)
    assert not len(manifest.missing_files()) and len(manifest) == len(media.made)
    labels = {
        path.rpartition("/")[2]: label
        for path, label in zip(manifest.table["path"], manifest.table["label"], strict=True)
    }
    assert labels == media.made
    counts = manifest.table.groupby(["split", "label"]).size()
    assert counts.min() >= 2 and counts["test"].min() >= 3
    if name == "asvspoof2019_la":
        assert counts["train"].min() >= 6
