"""Zoos of encoders, cross-dataset tests, and where a recipe's clips come from."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from avdetect.data import Manifest
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.media import ClipSettings
from avdetect.recipes import zoo
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.encoders import fit_settings, start_encoder
from avdetect.recipes.pipeline import run_recipe
from avdetect.recipes.sources import read_roots, with_splits
from avdetect.recipes.tasks import visual_method

ROOT = Path(__file__).resolve().parents[2]
with open(ROOT / "recipes" / "recipes.csv", newline="", encoding="utf-8") as opened:
    NAMES = [row["recipe"] for row in csv.DictReader(opened)]
PLACES = ["data.root=/data/set"]
CROSSED = {"celebdf_crosstest": "celeb_df", "wilddeepfake_crosstest": "wilddeepfake"}


def composed(name, *overrides):
    """The configuration of a recipe for data of one's own."""
    more = [f"data.cross.{CROSSED[name]}=/data/other"] if name in CROSSED else []
    return compose_recipe(name, [*PLACES, *more, *overrides])


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_as_it_is_meant_is_valid(name):
    """The real networks, which no smoke run makes."""
    config = composed(name)
    members = config["members"] or {name: config}
    clip = ClipSettings(**config["clip"], crop_size=config["encoder"]["visual"]["crop_size"])
    for part in members.values():
        for modality in config["modalities"]:
            encoder = part["encoder"][modality]
            with torch.device("meta"):
                network = create_encoder(encoder["name"], **encoder["settings"])
            assert fit_settings(part["train"][modality]["fit"], 0).epochs > 0
            if modality == "visual":
                visual_method(part["train"]["visual"])
                assert network.preprocess.size <= clip.crop_size


def test_the_members_of_the_ispl_zoo():
    members = composed("dfdc_ispl")["members"]
    assert list(members) == [
        "efficientnet_b4", "efficientnet_b4_st", "efficientnet_autoatt_b4", "efficientnet_autoatt_b4_st",
        "xception",
    ]  # fmt: skip
    siamese = [name for name, own in members.items() if own["train"]["visual"]["method"] == "siamese"]
    assert siamese == ["efficientnet_b4_st", "efficientnet_autoatt_b4_st"]


def test_the_members_of_the_ssim_zoo():
    config = composed("dfdc_ssim_zoo")
    names = {name: own["encoder"]["visual"]["name"] for name, own in config["members"].items()}
    single = [name for name in names if not name.startswith("ssim_")]
    assert len(single) == 6 and all(names[f"ssim_{name}"] == f"ssim({name})" for name in single)
    assert sorted(map(tuple, config["compare"])) == sorted((f"ssim_{name}", name) for name in single)
    for own in config["members"].values():
        assert own["train"]["visual"]["loss"] == {"name": "focal", "gamma": 2.0, "alpha": 0.25}
        assert own["encoder"]["visual"]["settings"] == {"size": 224}
    clip = config["clip"]
    assert (clip["sampling"], clip["sampling_frames"], clip["sampling_interval_s"]) == ("first", 20, 0.5)


def test_overrides_hold_for_all_members():
    members = composed("dfdc_ispl", "train.visual.fit.epochs=7", "only=[xception,efficientnet_b4_st]")[
        "members"
    ]
    assert list(members) == ["xception", "efficientnet_b4_st"]
    assert [own["train"]["visual"]["fit"]["epochs"] for own in members.values()] == [7, 7]
    members = composed("dfdc_ispl", "train=demo")["members"]  # instead of what the members say
    assert {own["train"]["visual"]["method"] for own in members.values()} == {None}


def test_wrong_members_are_named():
    with pytest.raises(ConfigError, match="only names resnet, which is none of efficientnet_b4, "):
        composed("dfdc_ispl", "only=[resnet]")
    with pytest.raises(ConfigError, match="members.xception of dfdc_ispl changes clip: all members share"):
        composed("dfdc_ispl", "members.xception=['clip.crop_margin=0.4']")
    with pytest.raises(ConfigError, match="members.xception of dfdc_ispl cannot be composed"):
        composed("dfdc_ispl", "members.xception=['encoder/visual=nonesuch']")


def test_a_recipe_without_its_data_says_what_to_give(run_python, tmp_path):
    with pytest.raises(ConfigError, match="give data.root=FOLDER of the dataset, or data.root=demo:aiface"):
        compose_recipe("aiface_fairness")
    done = run_python("-m", "avdetect.recipes.aiface_fairness", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("aiface_fairness: a setting has no value")
    assert done.stderr.count("\n") == 1


def test_preprocessing_can_be_changed_and_stays_with_the_weights():
    config = composed("faces140k_cnn")["members"]["hybrid_clahe"]["encoder"]["visual"]
    assert start_encoder({**config, "name": "hybrid_tiny", "settings": {}}).preprocess.clahe
    with pytest.raises(ConfigError, match="has no setting clah"):
        start_encoder({**config, "name": "hybrid_tiny", "settings": {}, "preprocess": {"clah": True}})


# -- splits and roots -----------------------------------------------------------------------------------------

FRACTIONS = {"train": 0.5, "val": 0.25, "test": 0.25}


def clips(dataset, splits):
    rows = [
        {"path": f"{dataset}{i}.png", "kind": "image", "label": i % 2, "split": split, "dataset": dataset}
        for i, split in enumerate(splits)
    ]
    return pd.DataFrame(rows)


def test_clips_outside_the_published_splits_stay_out():
    said = []
    divided = clips("A", ["train"] * 4 + ["test"] * 2 + [None])
    manifest = Manifest(pd.concat([divided, clips("B", [None] * 16)]))
    result = with_splits(manifest, FRACTIONS, 0, False, said.append).table
    assert said == ["found  1 clips outside the splits of their dataset, which are left out"]
    own = result[result["dataset"] == "A"]
    assert list(own["split"]) == ["train"] * 4 + ["test"] * 2
    dealt = result[result["dataset"] == "B"]["split"].value_counts()
    assert dealt.to_dict() == {"train": 8, "val": 4, "test": 4}


def test_an_own_split_deals_all_clips():
    manifest = Manifest(clips("A", ["train"] * 15 + [None]))
    result = with_splits(manifest, FRACTIONS, 0, True, print).table["split"].value_counts()
    assert result.to_dict() == {"train": 8, "val": 4, "test": 4}


def test_nothing_left_is_an_error(tmp_path):
    clips("A", ["train"] * 4).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(DataError, match="no clip is left to work with"):
        read_roots(str(tmp_path), {"seed": 0, "data": {"work_dir": str(tmp_path)}}, None, lambda line: None)


# -- what a zoo writes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def ensemble_run(work):
    """Two small networks and their ensemble on the faces of a miniature, and what happened in which order."""
    overrides = shlex.split(
        "data.root=demo:faces140k clip.pictures=face clip.sampling=interval encoder.visual.settings.size=64 "
        "smoke=tiny only=[xception,efficientnet_b4] \"members.xception=['encoder.visual.name=xception_tiny']\" "
        "\"members.efficientnet_b4=['encoder.visual.name=efficientnet_tiny']\" data.cross={ciplab:demo:ciplab}"
    )
    events, real = [], zoo.run_stages

    def watched(context, stages):
        events.append((context.config["name"], list(stages)))
        real(context, stages)

    zoo.run_stages = watched
    try:
        run = run_recipe(compose_recipe("dfdc_ispl", [*overrides, f"runs={work}"]))
    finally:
        zoo.run_stages = real
    return run.path, events


def test_no_member_is_tested_before_all_are_chosen(ensemble_run):
    _, events = ensemble_run
    assert events == [
        ("dfdc_ispl", ["index", "prepare"]),
        ("dfdc_ispl-xception", ["visual", "fusion", "calibrate"]),
        ("dfdc_ispl-efficientnet_b4", ["visual", "fusion", "calibrate"]),
        ("dfdc_ispl-xception", ["test", "cross"]),
        ("dfdc_ispl-efficientnet_b4", ["test", "cross"]),
    ]


def test_the_ensemble_is_the_mean_of_logits(ensemble_run):
    path, _ = ensemble_run
    tables = [
        pd.read_parquet(path / "members" / name / "scores.parquet")
        for name in ("xception", "efficientnet_b4")
    ]
    joined = pd.read_parquet(path / "ensemble" / "scores.parquet")
    np.testing.assert_allclose(
        joined["score_logit"], (tables[0]["score_logit"] + tables[1]["score_logit"]) / 2
    )
    said = json.loads((path / "ensemble" / "metrics.json").read_text())
    assert said["calibrated_on"] == "validation" and said["join"] == "mean of logits"
    assert (np.diff(joined.sort_values("score_logit")["score"]) >= -1e-9).all()


def test_the_comparison_shows_every_model_and_chooses_none(ensemble_run):
    path, _ = ensemble_run
    table = pd.read_csv(path / "comparison.csv")
    assert list(table["model"]) == ["xception", "efficientnet_b4", "ensemble"]
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["chosen_among_models"] is False
    assert [(c["model"], c["against"]) for c in metrics["comparisons"]] == [
        ("efficientnet_b4", "xception"), ("ensemble", "xception"),
    ]  # fmt: skip
    pair = metrics["comparisons"][0]
    auc = table.set_index("model")["roc_auc"]
    assert pair["difference"] == pytest.approx(auc["efficientnet_b4"] - auc["xception"])
    wide = pd.read_parquet(path / "scores.parquet")
    assert {"xception", "efficientnet_b4", "ensemble"} <= set(wide) and len(wide) == table["n"].iloc[0]


def test_a_member_is_a_complete_run(ensemble_run):
    path, _ = ensemble_run
    folder = path / "members" / "xception"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["name"] == "dfdc_ispl-xception" and config["encoder"]["visual"]["name"] == "xception_tiny"
    card = json.loads((folder / "bundle" / "card.json").read_text())
    assert card["name"] == "dfdc_ispl-xception-demo" and "drawn faces" in card["warnings"][0]


def test_other_datasets_are_tested_on_their_test_split_alone(ensemble_run):
    path, _ = ensemble_run
    for name in ("xception", "efficientnet_b4"):
        folder = path / "members" / name / "cross" / "ciplab"
        manifest = pd.read_csv(folder / "manifest.csv")
        scores = pd.read_parquet(folder / "scores.parquet")
        assert set(manifest["split"]) == {"test"} and len(scores) == len(manifest) == 6
        assert json.loads((folder / "metrics.json").read_text())["selected_on"].startswith("validation")
    matrix = pd.read_csv(path / "cross.csv")
    assert list(matrix["test"]) == ["its own test split", "ciplab"] * 2


def test_a_finished_zoo_does_nothing_again(ensemble_run, work, capsys):
    path, _ = ensemble_run
    config = yaml.safe_load((path / "config.yaml").read_text())
    run_recipe({**config, "run_dir": str(path)})
    said = capsys.readouterr().err
    assert "visual  epoch" not in said and said.count("test  done before") == 2


def test_a_clip_is_judged_by_all_or_none():
    joined = zoo.mean_logits([np.array([1.0, np.nan]), np.array([3.0, 2.0])])
    assert joined[0] == 2.0 and np.isnan(joined[1])
