"""The shortcut audit: planted shortcuts are found and named, chance is not, files are read once."""

import json
import wave

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from avdetect.data.manifest import Manifest
from avdetect.errors import DataError
from avdetect.evaluation import audit as module
from avdetect.evaluation.audit import audit_manifest, audit_warnings, read_audit, read_facts

SOURCES = 40


def write_wav(path, seconds, amplitude, silence, rate, rng):
    samples = (rng.standard_normal(round(seconds * rate)) * amplitude * 32767).clip(-32767, 32767)
    samples[: round(silence * rate)] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def make_set(root, plant=None, seed=0):
    """A genuine recording and two fakes of each of 40 sources, alike but for what is planted in the fakes."""
    rng, rows = np.random.default_rng(seed), []
    for source in range(SOURCES):
        for number in range(3):
            fake = int(number > 0)
            options = {
                "seconds": 0.1 + rng.uniform(0, 0.05), "amplitude": 10 ** rng.uniform(-2, -1),
                "silence": rng.uniform(0.0, 0.02), "rate": int(rng.choice([8000, 16000])),
            }  # fmt: skip
            if fake and plant is not None:
                plant(options, rng)
            name = f"{'fake' if fake else 'real'}/{rng.integers(10**9):09d}.wav"
            write_wav(root / name, **options, rng=rng)
            rows.append({"path": name, "label": fake, "source": f"s{source}", "split": "test"})
    return Manifest(pd.DataFrame(rows), root=root, name="set")


def test_no_shortcut_is_flagged_where_there_is_none(tmp_path):
    audit = audit_manifest(make_set(tmp_path), workers=0, resamples=200)
    assert audit["warnings"] == [] and audit["n_audited"] == 120 and audit["n_sources"] == SOURCES
    for name, entry in audit["shortcuts"].items():
        if entry["auc"]["value"] is not None:
            assert entry["auc"]["low"] - 0.03 <= 0.5 <= entry["auc"]["high"] + 0.03, name
    assert audit["shortcuts"]["audio channels"]["direction"] == "tells nothing"
    assert audit["shortcuts"]["audio channels"]["auc"]["value"] == 0.5
    assert audit["shortcuts"]["frame rate"]["reason"] == "no file has it"
    json.dumps(audit, allow_nan=False)


@pytest.mark.parametrize(
    "plant, name, direction",
    [
        (lambda o, rng: o.update(seconds=o["seconds"] + 0.03), "duration", "higher in fakes"),
        (lambda o, rng: o.update(amplitude=o["amplitude"] / 5), "loudness", "lower in fakes"),
        (lambda o, rng: o.update(silence=0.025), "leading silence", "higher in fakes"),
        (lambda o, rng: o.update(rate=8000), "sample rate", "by its value"),
    ],
)
def test_a_planted_shortcut_is_named(plant, name, direction, tmp_path):
    audit = audit_manifest(make_set(tmp_path, plant), workers=0, resamples=100)
    entry = audit["shortcuts"][name]
    assert entry["flagged"] and entry["direction"] == direction
    assert (
        0.7 <= entry["auc"]["low"] <= entry["auc"]["value"] <= entry["auc"]["high"] or name == "sample rate"
    )
    assert any(warning.startswith(f"{name} alone separates the classes (AUC 0.") or "AUC 1" in warning
               for warning in audit["warnings"])  # fmt: skip
    assert audit["joined"]["flagged"] and "all shortcuts together" in audit["warnings"][-1]


def test_file_order_is_that_of_names_not_of_folders(tmp_path):
    manifest = make_set(tmp_path)
    assert not audit_manifest(manifest, workers=0, resamples=20)["shortcuts"]["file order"]["flagged"]
    for number, (row, entry) in enumerate(manifest.table.sort_values("label").iterrows()):
        (tmp_path / entry["path"]).rename(tmp_path / f"{number}.wav")
        manifest.table.loc[row, "path"] = f"{number}.wav"
    entry = audit_manifest(manifest, workers=0, resamples=20)["shortcuts"]["file order"]
    assert entry["auc"]["value"] == 1.0 and entry["direction"] == "higher in fakes"


def test_auc_and_its_interval_agree_with_references():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = (rng.normal(labels * 0.7, 1) * 4).round() / 4  # with ties
    assert module._auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    codes = np.arange(200) // 4
    low, high = module._interval(labels, scores, codes, 400, 1)
    drawn = []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(codes == c) for c in rng.integers(0, 50, 50)])
        drawn.append(roc_auc_score(labels[rows], scores[rows]))
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.02)
    assert module._interval(labels, scores, np.zeros(200, int), 10, 1) == (None, None)


def test_clips_of_a_source_make_intervals_wider():
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(20), 20)
    labels = sources % 2
    scores = rng.normal(0, 1, 20)[sources] + rng.normal(0, 0.1, 400)
    single = module._interval(labels, scores, np.arange(400), 300, 0)
    clustered = module._interval(labels, scores, sources, 300, 0)
    assert clustered[1] - clustered[0] > 3 * (single[1] - single[0])


def test_a_category_seen_in_one_source_only_tells_nothing():
    y, groups = np.arange(40) % 2, np.arange(40)
    values = pd.Series([f"{number}x10" for number in range(40)], dtype="string")
    shortcut = module._by_category(y, values, module._folds(y, groups, 0))
    assert np.ptp(shortcut.scores) == 0


def test_facts_are_read_once_and_again_where_a_file_changed(tmp_path, monkeypatch):
    manifest, cache = make_set(tmp_path / "set"), tmp_path / "out" / "audit.facts.jsonl"
    table, read = manifest.table, []
    (tmp_path / "set" / table["path"][3]).write_bytes(b"broken")
    real = module.make_fact_reader()
    monkeypatch.setattr(module, "make_fact_reader", lambda: lambda task: read.append(task[0]) or real(task))
    facts, unread = read_facts(table, cache, workers=0)
    assert len(read) == 120 and len(facts) == 119 and len(unread) == 1 and "cannot be read" in unread[0]
    with open(cache, "a") as file:
        file.write('{"file": "half a li')  # a killed run
    write_wav(tmp_path / "set" / table["path"][5], 0.3, 0.1, 0, 8000, np.random.default_rng(0))
    read.clear()
    calls = []
    again, _ = read_facts(table, cache, workers=0, progress=lambda *c: calls.append(c))
    assert sorted(read) == sorted(f"{tmp_path / 'set'}/{table['path'][row]}" for row in (3, 5))
    assert calls == [(119, 120), (120, 120)] and again["duration_s"][5] == pytest.approx(0.3)
    same = [row for row in facts.index if row != 5]
    pd.testing.assert_frame_equal(again.loc[same], facts.loc[same], check_dtype=False)
    cache.write_text("nonsense\n")
    with pytest.raises(DataError, match="line 1"):
        read_facts(table, cache, workers=0)


def test_one_class_is_an_error_and_one_source_gives_reasons(tmp_path):
    manifest = make_set(tmp_path)
    with pytest.raises(DataError, match="between genuine and fake"):
        audit_manifest(manifest.where("label == 1"), workers=0)
    lone = Manifest(manifest.table.assign(source="one").head(30), root=tmp_path)
    audit = audit_manifest(lone, workers=0, resamples=10)
    assert audit["joined"]["reason"] == "the clips of a class come from one source"
    assert audit["shortcuts"]["duration"]["auc"]["low"] is None


def test_a_stored_audit_gives_its_warnings_to_reports(tmp_path):
    audit = audit_manifest(
        make_set(tmp_path / "set", lambda o, rng: o.update(seconds=1)), workers=0, resamples=20
    )
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(audit))
    assert read_audit(path) == audit and audit_warnings(path) == audit["warnings"] != []
    for content in ("{", "[]", '{"schema": "other"}'):
        path.write_text(content)
        with pytest.raises(DataError, match="data audit"):
            audit_warnings(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_audit(tmp_path / "none.json")
