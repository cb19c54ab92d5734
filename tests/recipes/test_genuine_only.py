"""Learning from genuine clips alone: the whole recipe on a miniature that holds no fake, stage by stage."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import PartialState

from avdetect.data.guard import open_test_data
from avdetect.encoders import load_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.inference.bundle import load_bundle
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.pipeline import run_recipe
from avdetect.recipes.pseudo_stage import check_material, require_genuine
from avdetect.recipes.run_folder import RunFolder
from avdetect.recipes.stages import Context

GENUINE = 'data.where="label == 0"'
FACES = "{steps: 4, batch: 2, side: 32, faces: 8, width: 4, code: 4, upsampling: [nearest], keep: [1.0]}"
VOICES = "{steps: 2, batch: 2, width: 8, networks: [codec], keep: [1.0]}"
SMALL = (
    "smoke=tiny", "encoder.visual.settings.size=64", "encoder.visual.crop_size=64",
    "train.lipsync.frames=24", "pseudo.train=4", "pseudo.val=3", "pseudo.test=3",
    f"++train.generators.visual={FACES}", f"++train.generators.audio={VOICES}",
)  # fmt: skip
BEFORE = "[index,prepare,generators]"
ENCODERS = "[visual,audio,lipsync]"
CHOICE = "[pseudo,fusion,calibrate]"


def config(folder: Path, *overrides: str):
    # Two recordings in all: a layout's miniature is made once and shared by the runs of a module.
    places = (f"runs={folder}", f"data.work_dir={folder / 'data'}")
    return compose_recipe("genuine_only", ["data.root=demo:lavdf", GENUINE, *SMALL, *places, *overrides])


def context_of(run: Path, settings) -> Context:
    return Context(settings, RunFolder(run), PartialState(), lambda line: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("genuine")


@pytest.fixture(scope="module")
def chosen(place) -> Path:
    """A run in which everything is chosen and the test split was not read; one stage after the other."""
    run = place / "run"
    for stages in (BEFORE, ENCODERS, CHOICE):
        run_recipe(config(place, f"run_dir={run}", f"stages={stages}"))
    assert not list((run / "pseudo").glob("test*")) and not (run / "scores.parquet").exists()
    return run


@pytest.fixture(scope="module")
def finished(place, chosen) -> Path:
    run_recipe(config(place, f"run_dir={chosen}"))
    return chosen


def test_the_data_holds_no_fake(finished):
    assert set(pd.read_csv(finished / "manifest.csv")["label"]) == {0}


def test_every_part_is_manipulated_in_every_split(finished):
    manifest = pd.read_csv(finished / "manifest.csv")
    for split in ("train", "val", "test"):
        table = pd.read_csv(finished / "pseudo" / f"{split}.csv")
        own = manifest[manifest["split"] == split]
        assert set(table["made_of"]) <= set(own["dataset"] + "/" + own["path"]), split
        assert set(table["split"]) == {split}
        assert set(table["made_by"].str.split().str[0]) == {"face", "voice", "lips"}
        assert "pseudo:face and voice" in set(table["method"])


def test_the_test_tells_each_kind_of_fake_apart(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    table = pd.read_csv(finished / "pseudo" / "test.csv")
    assert set(metrics["clips"]["fused"]["methods"]) == set(table["method"])
    assert metrics["n_real"] == 4 and metrics["n_fake"] == len(table) == 12
    scores = pd.read_parquet(finished / "scores.parquet")
    copies = scores[scores["made_of"].notna()]
    assert set(copies["made_by"]) == set(table["made_by"]) and (copies["label"] == 1).all()


def test_the_networks_that_make_fakes_are_told_of_and_used(finished):
    told = json.loads((finished / "stages" / "generators.json").read_text())
    assert set(told) == {"visual", "audio"}
    assert all(list(Path(entry["folder"]).glob("*.safetensors")) for entry in told.values())
    made = pd.concat(pd.read_csv(path) for path in (finished / "pseudo").glob("*.csv"))["made_by"]
    assert made.str.contains("autoencoder").any() and made.str.contains("neural").any()


def test_no_genuine_validation_clip_is_called_fake(finished, place):
    """Three clips are too few to promise a rate: then none may lie above."""
    context = context_of(finished, config(place))
    bundle = load_bundle(finished / "bundle")
    from avdetect.inference.scoring import fused_logits
    from avdetect.recipes.scoring import verdict_scores

    scores = verdict_scores(bundle, fused_logits(bundle.fusion, context.evidence.rows("val")))
    genuine = context.evidence.truths("val")["fused"] == 0
    assert genuine.sum() == 3 and (scores[genuine] <= bundle.thresholds["fused"]["fake_above"]).all()


def test_truths_of_the_fusion_are_those_of_the_manipulation(finished, place):
    store = context_of(finished, config(place)).evidence
    table, truths, features = store.table("val"), store.truths("val"), store.features("val")
    made = table["made_by"].fillna("")
    for name, part in (("visual", "face"), ("audio", "voice"), ("lipsync", "lips")):
        expected = made.str.contains(part).to_numpy(float)
        assert (truths[name] == expected).all(), name
        assert (features["own"][:, list(store.encoders).index(name)].numpy() == expected).all(), name
    assert (truths["fused"] == (made != "")).all()


def test_lip_sync_is_calibrated_on_genuine_clips_and_their_shifts(finished, place):
    truth, logits = context_of(finished, config(place)).evidence.sync_pairs("val")
    assert truth.tolist() == [0.0, 1.0] * 3 and np.isfinite(logits).all()


def test_the_number_of_copies_does_not_set_the_odds(finished):
    told = load_bundle(finished / "bundle").calibration
    assert set(told) == {"visual", "audio", "lipsync", "fused"}
    assert all(fit.fitted["even_odds"] for fit in told.values())


def test_the_test_split_stays_closed_until_the_test(chosen, place):
    context = context_of(chosen, config(place))
    with pytest.raises(DataError, match="the test split was asked for"):
        context.evidence.rows("test")
    with open_test_data():
        assert context.prepared.rows("clip", "test")["truth"].eq(0).all()


def test_a_detector_is_put_together_from_parts_trained_elsewhere(finished, place):
    """Same weights, generators and seed: the same figures, and nothing is trained again."""
    run = place / "assembled"
    given = [
        f"encoder.{name}.weights={finished / 'checkpoints' / f'{name}.safetensors'}"
        for name in ("visual", "audio", "lipsync")
    ]
    kept = [f"train.{name}.fit.epochs=0" for name in ("visual", "audio", "lipsync")]
    folders = [f"generators.{name}={finished / 'generators' / name}" for name in ("visual", "audio")]
    run_recipe(config(place, f"run_dir={run}", *given, *kept, *folders))
    assert not (run / "generators").exists()
    for name in ("visual", "audio", "lipsync"):
        mine, theirs = (
            load_encoder(folder / "checkpoints" / f"{name}.safetensors").state_dict()
            for folder in (run, finished)
        )
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), name
        assert "kept as they were given" in json.loads((run / "stages" / f"{name}.json").read_text())["note"]
    first, second = (pd.read_parquet(folder / "scores.parquet") for folder in (finished, run))
    pd.testing.assert_frame_equal(first, second)


def run_and_fail(capsys, settings) -> str:
    with pytest.raises(SystemExit):
        run_recipe(settings)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (['data.where="label == 1"'], "has no genuine clip in its train split"),
        (["data.where=\"split == 'train'\""], "has no genuine clip in its val split"),
        (["generators.visual=/no/such"], "generators.visual is /no/such, which is no folder"),
    ],
)
def test_what_is_missing_gets_a_sentence(place, finished, tmp_path, capsys, overrides, sentence):
    """The miniature and its prepared clips are those of the other runs."""
    assert sentence in run_and_fail(capsys, config(place, f"run_dir={tmp_path / 'run'}", *overrides))


def test_a_stage_that_must_come_first_is_named(place, finished, tmp_path, capsys):
    for name, stages, sentence in (
        ("visual", "[index,prepare,visual]", "the generators stage has not run"),
        ("pseudo", "[pseudo]", "the index stage has not run"),
    ):
        settings = config(place, f"run_dir={tmp_path / name}", f"stages={stages}")
        assert sentence in run_and_fail(capsys, settings)


def test_the_copies_must_be_there_before_the_fusion(place, finished, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    context = Context(config(place), run, PartialState(), lambda line: None)
    with pytest.raises(ConfigError, match="the pseudo stage has not run"):
        _ = context.evidence


def test_without_networks_fakes_are_made_by_the_other_kinds(place, finished, tmp_path):
    run = tmp_path / "run"
    none = ("train.generators.visual=null", "modalities=[visual]", "stages=[index,prepare,generators,pseudo]")
    run_recipe(config(place, f"run_dir={run}", *none))
    made = pd.concat(pd.read_csv(path) for path in (run / "pseudo").glob("*.csv"))["made_by"]
    assert made.str.startswith("face").all() and not made.str.contains("autoencoder").any()


def test_material_of_every_modality_is_looked_for(finished, place):
    prepared = context_of(finished, config(place)).prepared
    check_material(prepared, ["visual", "audio", "lipsync"])
    prepared.table["has_audio"] = False
    check_material(prepared, ["visual"])
    with pytest.raises(DataError, match="no genuine clip of the train split has sound"):
        check_material(prepared, ["visual", "audio"])
    with pytest.raises(DataError, match="shows a talking face: add footage that does, or take lipsync out"):
        check_material(prepared, ["lipsync"])


def test_a_manifest_without_splits_is_dealt_by_person(tmp_path):
    rows = pd.DataFrame({"split": ["train", "val", "test"], "label": [0, 0, 0]}).astype({"label": "Int64"})
    require_genuine(rows, "footage")
    with pytest.raises(DataError, match="footage has no genuine clip in its val split"):
        require_genuine(rows.assign(label=pd.array([0, 1, 0], dtype="Int64")), "footage")
