"""Several encoders trained one after the other on the same prepared clips, then compared, and joined if wanted.

A recipe with `members` is a zoo: each member is a complete run in `members/NAME/` of the run folder. All are
trained and calibrated before the first of them reads the test split, each reads it once, and nothing is chosen
among them: the table shows all. `ensemble: true` adds the mean of their logits, calibrated on validation.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from avdetect.errors import ConfigError
from avdetect.evaluation import Thresholds, choose_thresholds, fit_calibration
from avdetect.evaluation.compare import paired_bootstrap
from avdetect.evaluation.plots import Curve, plot_calibration, plot_roc
from avdetect.recipes.cross import write_matrix
from avdetect.recipes.pipeline import SHARED_STAGES, by_one_process, run_stages
from avdetect.recipes.run_folder import RunFolder, write_json
from avdetect.recipes.scoring import TOLD, write_scores
from avdetect.recipes.stages import Context

if TYPE_CHECKING:
    from collections.abc import Iterable

ENSEMBLE = "ensemble"


def run_zoo(context: Context, wanted: list[str]) -> None:
    """Run the wanted stages of all members, then the comparison once all of them were tested."""
    names = list(context.config["members"])
    run_stages(context, [stage for stage in wanted if stage in SHARED_STAGES])
    own = [stage for stage in wanted if stage not in SHARED_STAGES]
    training = [stage for stage in own if stage not in ("test", "analyse", "cross")]
    for stages in (training, own[len(training) :]):
        for name in names if stages else ():
            context.say(f"\nmember  {name}")
            run_stages(member(context, name), stages)
    if all(member(context, name).run.result("test") is not None for name in names):
        by_one_process(context, "zoo", lambda: _compare(context, names))
        _say_table(context)


def member(context: Context, name: str) -> Context:
    """The run of one member, on the clips of the zoo."""
    config = {key: value for key, value in context.config.items() if key not in ("members", "only")}
    for part, own in context.config["members"][name].items():
        config[part] = {**config[part], **own}
    config["name"] = f"{config['name']}-{name}"
    size = context.config["encoder"]["visual"]["crop_size"]  # of the shared crops, not of the member's input
    config["encoder"] = {
        **config["encoder"],
        "visual": {**config["encoder"]["visual"], "crop_size": size},
    }
    run = RunFolder(context.run.path / "members" / name)
    if context.processes.is_main_process and not (run.path / "manifest.csv").exists():
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        context.manifest.write(run.path / "manifest.csv")
        for stage in SHARED_STAGES:
            run.finish(stage, context.run.result(stage))
    context.processes.wait_for_everyone()
    result = Context(config, run, context.processes, context.say)
    result.manifest, result.prepared = context.manifest, context.prepared
    return result


def _compare(context: Context, names: list[str]) -> None:
    """Write comparison.csv, scores.parquet (one column a model), metrics.json and plots of all models."""
    metrics, tables = {}, {}
    for name in names:
        folder = context.run.path / "members" / name
        metrics[name] = json.loads((folder / "metrics.json").read_text())
        tables[name] = pd.read_parquet(folder / "scores.parquet")
    if context.config.get(ENSEMBLE):
        metrics[ENSEMBLE] = _ensemble(context, names, tables)
        tables[ENSEMBLE] = pd.read_parquet(context.run.path / ENSEMBLE / "scores.parquet")
    overall = {name: entry["clips"]["fused"]["overall"] for name, entry in metrics.items()}
    scores = wide_scores(tables)
    scores.to_parquet(context.run.path / "scores.parquet")
    comparison(overall).to_csv(context.run.path / "comparison.csv", index=False)
    pairs = _paired(scores, _pairs(context, list(overall)), context.config["seed"])
    crossed = {name: member(context, name).run.result("cross") for name in names}
    if all(crossed.values()):
        write_matrix({name: found["reports"] for name, found in crossed.items()}, context.run.path)
    measured = {name: report for name, report in overall.items() if report["reason"] is None}
    curves = {name: _curve(tables[name], report) for name, report in measured.items()}
    if curves:
        plot_roc(curves, context.run.path / "plots" / "roc.png")
        plot_calibration(curves, context.run.path / "plots" / "calibration.png")
    write_json(
        context.run.path / "metrics.json",
        {
            "schema": "avdetect.zoo/1",
            "selected_on": "validation",
            "chosen_among_models": False,
            "models": overall,
            "comparisons": pairs,
        },
    )
    context.run.finish("zoo", {"models": list(overall)})


def wide_scores(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What is known of each test clip, and a column of P(fake) for each model."""
    told = [column for column in TOLD if column in next(iter(tables.values()))]
    first = next(iter(tables.values()))[told]
    columns = [table[["key", "score"]].rename(columns={"score": name}) for name, table in tables.items()]
    return reduce(lambda left, right: left.merge(right, on="key", validate="one_to_one"), columns, first)


def comparison(overall: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a model: counts and clip-level metrics of the test split, the AUC with its 95 % interval."""
    rows = []
    for name, report in overall.items():
        auc = report["roc_auc"]
        shown = ("average_precision", "eer", "log_loss", "ece", "accuracy", "precision", "recall", "f1")
        rows.append(
            {"model": name, "n": report["n"], "n_fake": report["n_fake"], "roc_auc": auc["value"]}
            | {"roc_auc_low": auc["low"], "roc_auc_high": auc["high"]}
            | {metric: report[metric]["value"] for metric in shown}
        )
    return pd.DataFrame(rows)


def _pairs(context: Context, models: list[str]) -> list[tuple[str, str]]:
    """Which differences are tested, said before any score was seen: those of `compare`, else each with the first."""
    wanted = context.config.get("compare")
    if wanted is None:
        return [(name, models[0]) for name in models[1:]]
    return [(a, b) for a, b in wanted if a in models and b in models]


def _paired(scores: pd.DataFrame, pairs: list[tuple[str, str]], seed: int) -> list[dict[str, Any]]:
    """Differences of the AUC on the clips that both models judged, by paired bootstrap over sources."""
    found = []
    for a, b in pairs:
        rows = scores[scores["label"].notna() & scores[a].notna() & scores[b].notna()]
        if rows["label"].nunique() < 2:
            found.append({"model": a, "against": b, "reason": "no clips of both classes that both judged"})
            continue
        sources = rows["source"].fillna(rows["key"]).to_numpy()
        labels, first, second = (rows[column].to_numpy(float) for column in ("label", a, b))
        compared = paired_bootstrap(labels, first, second, "roc_auc", sources, seed=seed)
        found.append({"model": a, "against": b, **compared.to_dict()})
    return found


def _ensemble(context: Context, names: list[str], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """The mean of the members' logits: calibrated and banded on validation, measured on test."""
    truth, logits = None, []
    for name in names:
        one = member(context, name)
        truth = one.evidence.truths("val")["fused"]
        logits.append(one.fused_logits("val"))
    val = mean_logits(logits)
    usable = np.isfinite(truth) & np.isfinite(val)
    method = context.config["train"]["calibration"] or "platt"
    calibration = fit_calibration(method, truth[usable].astype(int), val[usable])
    band = choose_thresholds(
        truth[usable].astype(int),
        calibration(val[usable]),
        max_fpr=context.config["train"]["max_false_positive_rate"],
    )
    first = tables[names[0]]
    if any(list(table["key"]) != list(first["key"]) for table in tables.values()):
        raise ConfigError("the members were tested on different clips: run the zoo anew with fresh=true")
    logit = mean_logits([table["score_logit"].to_numpy(float) for table in tables.values()])
    score = np.full(len(logit), np.nan)
    judged = np.isfinite(logit)
    score[judged] = calibration(logit[judged])
    table = first[[column for column in TOLD if column in first]].assign(score=score, score_logit=logit)
    folder = context.run.path / ENSEMBLE
    result = write_scores(table, None, folder, Thresholds(*band), context.config["seed"])
    said = {
        "members": names,
        "join": "mean of logits",
        "calibrated_on": "validation",
        "selected_on": "validation",
    }
    write_json(folder / "metrics.json", {**result, **said, "calibration": calibration.to_dict()})
    return result


def mean_logits(logits: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over models of their clip logits (N,); NaN where any model has none: a clip is judged by all or none."""
    return np.mean(np.stack(list(logits)), axis=0)


def _curve(table: pd.DataFrame, report: dict[str, Any]) -> Curve:
    rows = table[table["label"].notna() & table["score"].notna()]
    return Curve(rows["label"].astype(int).to_numpy(), rows["score"].to_numpy(float), report)


def _say_table(context: Context) -> None:
    table = pd.read_csv(context.run.path / "comparison.csv")
    context.say("\ntest split, read once by each model; 95 % intervals by bootstrap over sources")
    context.say(table.round(3).to_string(index=False, na_rep="-"))
    metrics = json.loads((context.run.path / "metrics.json").read_text())
    for pair in metrics["comparisons"]:
        if pair.get("low") is not None:
            interval = f"{pair['difference']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]"
            context.say(f"{pair['model']} less {pair['against']}: AUC {interval}, p {pair['p']:.3f}")
    context.say(f"\nmetrics, scores and plots: {context.run.path}")
