"""What a recipe adds to the common metrics, by the names in `analyses`: one file each in the run folder.

All read the finished scores of the test split (and the evidence they came from); nothing is fitted or chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from avdetect.errors import ConfigError
from avdetect.evaluation.fairness import group_report, group_table
from avdetect.evaluation.metrics import eer
from avdetect.evaluation.plots import plot_embeddings
from avdetect.evaluation.plots.embeddings import MIN_POINTS
from avdetect.evaluation.scorefiles import read_asv_scores, write_scorefile
from avdetect.evaluation.tandem import asv_operating_point, min_tdcf_2019
from avdetect.recipes.gradcam import gradcam
from avdetect.recipes.periods import localisation
from avdetect.recipes.run_folder import write_json

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

FAIRNESS = ("F_FPR", "F_OAE", "F_DP", "F_MEO")
ASV_SCORES = "**/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt*"


def run_analyses(context: Context) -> None:
    """Write `NAME.json` for each name in `analyses`, with what a function below returns."""
    table = pd.read_parquet(context.run.path / "scores.parquet")
    names = context.config["analyses"]
    unknown = [name for name in names if name not in ANALYSES]
    if unknown:
        raise ConfigError(f"unknown analysis {unknown[0]!r}: choose of {', '.join(ANALYSES)}")
    for name in names:
        write_json(context.run.path / f"{name}.json", ANALYSES[name](context, table))
        context.say(f"analyse  {name}  {context.run.path / name}.json")
    context.run.finish("analyse", {"analyses": list(names)})


# -- ASVspoof -------------------------------------------------------------------------------------------------


def asvspoof(context: Context, table: pd.DataFrame) -> dict[str, Any]:
    """EER and min t-DCF (2019), pooled and per attack, from raw logits; also `asvspoof_scores.txt`.

    The organisers' ASV scores are looked for in the dataset's folder, or named by data.asv_scores; without them there
    is no t-DCF, and the result says so. Per attack the ASV scores of the same attack are taken.
    """
    judged = table[table["score_logit"].notna()]
    write_scorefile(judged, context.run.path / "asvspoof_scores.txt", "asvspoof", keys=True)
    path = _asv_scores(context.config["data"], context.manifest.table)
    asv = None if path is None else read_asv_scores(path)
    attack_of = None if path is None else _spoof_by_attack(path)
    genuine = judged[judged["label"] == 0]
    result: dict[str, Any] = {
        "n": len(judged),
        "unscored": len(table) - len(judged),
        "pooled": _rates(judged, asv, asv and asv["spoof"]),
        "attacks": {},
        "asv_scores": path and str(path),
        "note": None if path else "no ASV scores: give data.asv_scores=FILE for the t-DCF",
    }
    if asv is not None:
        result["asv_eer"] = asv_operating_point(asv["target"], asv["nontarget"])[0]
    for attack, rows in judged[judged["label"] == 1].groupby("method"):
        spoof = None if attack_of is None else attack_of.get(attack)
        result["attacks"][attack] = _rates(pd.concat([genuine, rows]), asv, spoof)
    return result


def _rates(rows: pd.DataFrame, asv: dict[str, np.ndarray] | None, spoof: np.ndarray | None) -> dict[str, Any]:
    labels, scores = rows["label"].to_numpy(int), rows["score_logit"].to_numpy(float)
    said: dict[str, Any] = {"n_fake": int(labels.sum()), "eer": eer(labels, scores), "min_tdcf": None}
    if asv is not None and spoof is not None:
        said["min_tdcf"] = min_tdcf_2019(labels, scores, asv["target"], asv["nontarget"], spoof)
    return said


def _asv_scores(data: dict[str, Any], table: pd.DataFrame) -> Path | None:
    if data.get("asv_scores"):
        return Path(data["asv_scores"])
    return next((path for root in sorted(set(table["root"])) for path in Path(root).glob(ASV_SCORES)), None)


def _spoof_by_attack(path: Path) -> dict[str, np.ndarray]:
    """ASV scores of the spoofed trials by attack; the file was checked by `read_asv_scores`."""
    table = pd.read_csv(path, sep=r"\s+", names=["attack", "claim", "score"])
    spoofed = table[table["claim"] == "spoof"]
    return {str(attack): rows.to_numpy(float) for attack, rows in spoofed.groupby("attack")["score"]}


# -- embeddings -----------------------------------------------------------------------------------------------


def embeddings(context: Context, table: pd.DataFrame) -> dict[str, Any]:
    """PCA and t-SNE of each encoder's embeddings of the test clips: `plots/embeddings_NAME.png`."""
    said = {}
    rows = context.evidence.rows("test")
    for name in context.modalities:
        features = [row.features()[name] for row in rows]
        kept = [index for index, feature in enumerate(features) if feature is not None]
        if len(kept) < MIN_POINTS:
            said[name] = {"n": len(kept), "note": f"fewer than {MIN_POINTS} clips: nothing is drawn"}
            continue
        points = np.stack([features[index][1] for index in kept])
        told = table.iloc[kept]
        path = context.run.path / "plots" / f"embeddings_{name}.png"
        plot_embeddings(
            points, told["label"].to_numpy(int), told["method"], path, f"Embeddings of the test clips: {name}"
        )
        said[name] = {"n": len(kept), "plot": str(path.relative_to(context.run.path))}
    return said


# -- fairness -------------------------------------------------------------------------------------------------


def fairness(context: Context, table: pd.DataFrame) -> dict[str, Any]:
    """Rates of the groups in `groups` (lists of columns; several = intersections), at P(fake) 0.5.

    AI-Face's four numbers and every group's rates with sizes and intervals; also one `fairness_COLUMNS.csv` each.
    """
    judged = table[table["score"].notna()]
    result = {}
    for columns in context.config["groups"]:
        missing = [column for column in columns if column not in judged]
        if missing:
            raise ConfigError(
                f"groups names {missing[0]}, which the test clips do not tell: take it out of groups"
            )
        name = "_".join(columns)
        sources = judged["source"].fillna(judged["key"]).to_numpy()
        report = group_report(
            judged["label"], judged["score"], judged[columns], sources, seed=context.config["seed"]
        )
        group_table(report).to_csv(context.run.path / f"fairness_{name}.csv", index=False)
        context.say(
            f"fairness  {name}  " + "  ".join(f"{k} {_percent(report['aiface'][k])}" for k in FAIRNESS)
        )
        result[name] = report
    return result


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


ANALYSES: dict[str, Callable[..., dict[str, Any]]] = {
    "asvspoof": asvspoof,
    "embeddings": embeddings,
    "fairness": fairness,
    "gradcam": gradcam,
    "localisation": localisation,
}
