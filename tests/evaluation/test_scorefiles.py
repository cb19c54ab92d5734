import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.metrics import eer
from avdetect.evaluation.scorefiles import (
    from_asvspoof,
    from_avdeepfake1m,
    read_asv_scores,
    read_scorefile,
    to_asvspoof,
    to_avdeepfake1m,
    write_scorefile,
)
from avdetect.evaluation.tandem import asv_operating_point, min_tdcf_2019

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
PER_ATTACK = {
    "A07": 0.3429, "A08": 0.5297, "A09": 0.0815, "A10": 0.3905, "A11": 0.2852, "A12": 0.3429, "A13": 0.3022,
    "A14": 0.2852, "A15": 0.2682, "A16": 0.8149, "A17": 1.7452, "A18": 3.0898, "A19": 0.7096,
}  # fmt: skip


def table(count=40):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=count) * 10.0 ** rng.integers(-8, 8, count)
    names = [f"LA_E_{number:07d}" for number in rng.permutation(count)]
    label = pd.Series(np.arange(count) % 2)
    return pd.DataFrame({
        "key": [f"ASVspoof2019 LA/LA/ASVspoof2019_LA_eval/flac/{name}.flac" for name in names],
        "score": 1 / (1 + np.exp(-np.clip(logits, -30, 30))), "score_logit": logits, "utterance": names,
        "label": label, "method": pd.Series(["A07", "A19"] * (count // 2), dtype="string").mask(label == 0),
    })  # fmt: skip


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden scores ({GOLDEN}) are not here")
def test_golden_scores_give_the_published_numbers():
    scores = read_scorefile(GOLDEN / "rawgat_st_mul_scores.txt.gz", "asvspoof")
    assert len(scores) == 71_237 and (scores["label"] == 0).sum() == 7_355
    assert scores.iloc[0][["utterance", "label", "method"]].tolist() == ["LA_E_2834763", 1, "A11"]
    assert scores["score_logit"].iloc[0] == 8.750496864318848  # published: -8.75…, high = bona fide
    asv = read_asv_scores(GOLDEN / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz")
    assert {claim: len(values) for claim, values in asv.items()} == {
        "target": 5_370, "nontarget": 33_327, "spoof": 63_882,
    }  # fmt: skip
    asv_eer, threshold = asv_operating_point(asv["target"], asv["nontarget"])
    assert 100 * asv_eer == pytest.approx(2.457784, abs=1e-6) and threshold == pytest.approx(
        -5.680051, abs=1e-6
    )
    labels, values = scores["label"], scores["score_logit"]
    assert 100 * eer(labels, values) == pytest.approx(1.060135, abs=1e-6)
    cost = min_tdcf_2019(labels, values, asv["target"], asv["nontarget"], asv["spoof"])
    assert cost == pytest.approx(0.033539, abs=1e-6)
    assert sorted(scores["method"].dropna().unique()) == sorted(PER_ATTACK)
    for attack, expected in PER_ATTACK.items():
        chosen = (labels == 0) | (scores["method"] == attack)
        assert 100 * eer(labels[chosen], values[chosen]) == pytest.approx(expected, abs=1e-4), attack


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden scores ({GOLDEN}) are not here")
def test_golden_file_comes_out_as_it_went_in():
    text = gzip.decompress((GOLDEN / "rawgat_st_mul_scores.txt.gz").read_bytes()).decode()
    again = to_asvspoof(from_asvspoof(text), keys=True)
    assert again.splitlines() == [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("keys", [False, True])
def test_asvspoof_round_trip_is_exact_and_turns_the_polarity(keys):
    ours = table()
    text = to_asvspoof(ours, keys=keys)
    first = text.splitlines()[0].split()
    assert float(first[-1]) == -ours["score_logit"][0]
    assert first[1:-1] == (["-", "bonafide"] if keys else [])
    back = from_asvspoof(text)
    assert back["score_logit"].tolist() == ours["score_logit"].tolist()
    assert back["utterance"].tolist() == back["key"].tolist() == ours["utterance"].tolist()
    if keys:
        assert back["label"].tolist() == ours["label"].tolist()
        assert back["method"].fillna("").tolist() == ours["method"].fillna("").tolist()
        assert eer(back["label"], back["score_logit"]) == eer(ours["label"], ours["score_logit"])
    # A column of probabilities goes the same way, and the file's name stands in for the utterance.
    bare = ours.drop(columns="utterance")
    back = from_asvspoof(to_asvspoof(bare, column="score"), column="score")
    assert (
        back["score"].tolist() == ours["score"].tolist()
        and back["key"].tolist() == ours["utterance"].tolist()
    )


def test_files_of_both_layouts_are_written_and_read(tmp_path):
    ours = table().assign(file=lambda t: "id00012/x y/" + t["utterance"] + "/real.mp4")
    for name in ("scores.txt", "scores.txt.gz"):
        write_scorefile(ours, tmp_path / "new" / name, "asvspoof", keys=True)
        back = read_scorefile(tmp_path / "new" / name, "asvspoof")
        assert back["score_logit"].tolist() == ours["score_logit"].tolist()
    write_scorefile(ours, tmp_path / "prediction.txt", "avdeepfake1m")
    first = (tmp_path / "prediction.txt").read_text().splitlines()[0]
    assert first == f"{ours['file'][0]};{float(ours['score'][0])!r}"
    back = read_scorefile(tmp_path / "prediction.txt", "avdeepfake1m")
    assert back["score"].tolist() == ours["score"].tolist() and back["key"].tolist() == ours["file"].tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "prediction.txt"]
    with pytest.raises(ConfigError, match="unknown layout of score files 'dfdc'"):
        read_scorefile(tmp_path / "prediction.txt", "dfdc")
    with pytest.raises(DataError, match="cannot be read as a score file"):
        read_scorefile(tmp_path / "nothing.txt", "asvspoof")
    (tmp_path / "broken.txt.gz").write_bytes((tmp_path / "new" / "scores.txt.gz").read_bytes()[:-20])
    with pytest.raises(DataError, match="broken.txt.gz cannot be read"):
        read_scorefile(tmp_path / "broken.txt.gz", "asvspoof")


def test_avdeepfake1m_names_come_from_the_key():
    ours = pd.DataFrame(
        {"key": ["AV-Deepfake1M/testA/lrs3/a/1/x.mp4", "AV-Deepfake1M/val/b.mp4"], "score": [0.25, 1]}
    )
    assert to_avdeepfake1m(ours) == "lrs3/a/1/x.mp4;0.25\nb.mp4;1.0\n"
    with pytest.raises(DataError, match="lies in no folder train, val or test"):
        to_avdeepfake1m(pd.DataFrame({"key": ["DFDC/part/a.mp4"], "score": [0.5]}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u1 0.5\nu2 0.5 0.6\n", "line 2: expected `utterance score`"),
        ("u1 0.5\nu2 A07 spoof 0.5\n", "line 2: expected .* throughout"),
        ("u1 0.5\n\nu2\n", "line 3: expected"),
        ("u1 high\n", "line 1: expected a finite number"),
        ("u1 nan\n", "line 1: expected a finite number"),
        ("u1 - genuine 0.5\n", "line 1: expected the key bonafide or spoof"),
        ("u1 0.5\nu1 0.6\n", "has 1 clips twice, such as 'u1'"),
    ],
)
def test_damaged_asvspoof_files_are_named(text, message):
    with pytest.raises(DataError, match=message):
        from_asvspoof(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 0.5\n", "line 1: expected `file;score`"),
        ("a.mp4;0.5\nb.mp4;\n", "line 2: expected a finite number"),
        ("a.mp4;0.5;0.6\n", "line 1: expected `file;score`"),
        (";0.5\n", "line 1: expected `file;score`"),
        ("a.mp4;0.5\na.mp4;0.5\n", "has 1 clips twice"),
    ],
)
def test_damaged_avdeepfake1m_files_are_named(text, message):
    with pytest.raises(DataError, match=message):
        from_avdeepfake1m(text)


def test_damaged_verification_scores_are_named(tmp_path):
    (tmp_path / "asv.txt").write_text("bonafide target 1.5\nspoof impostor 0.5\n")
    with pytest.raises(DataError, match="asv.txt line 2: expected `key target|nontarget|spoof score`"):
        read_asv_scores(tmp_path / "asv.txt")


def test_what_cannot_be_written_is_refused():
    unscored = table(4)
    unscored.loc[2, "score_logit"] = np.nan
    with pytest.raises(DataError, match="1 of 4 clips have no finite score_logit"):
        to_asvspoof(unscored)
    with pytest.raises(DataError, match="has no column 'visual_logit'"):
        to_asvspoof(table(4), column="visual_logit")
    with pytest.raises(DataError, match="1 clips twice"):
        to_asvspoof(table(4).assign(utterance=["a", "b", "a", "c"]))
    with pytest.raises(DataError, match="with blanks, such as 'a b'"):
        to_asvspoof(table(4).assign(utterance=["a b", "b", "c", "d"]))
    with pytest.raises(DataError, match="4 clips have no label"):
        to_asvspoof(table(4).assign(label=pd.NA), keys=True)
    with pytest.raises(DataError, match="with semicolons"):
        to_avdeepfake1m(table(4).assign(file=["a;b", "b", "c", "d"]))
