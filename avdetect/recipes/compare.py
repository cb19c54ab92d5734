"""`avdetect compare`: finished runs side by side, on the clips that all of them judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.compare import paired_bootstrap
from avdetect.evaluation.metrics import METRICS
from avdetect.evaluation.seeds import summarise_values
from avdetect.recipes.run_folder import without_place

COLUMNS = ("key", "label", "source", "score")


def compare_runs(folders: list[Path], metric: str = "roc_auc", seed: int = 0) -> dict[str, Any]:
    """Compare each run with the first, and sum up runs that differ in their seed alone.

    folders: of recipes or of `avdetect evaluate`, each with a `scores.parquet`. Only clips that every run has
    scored count, so that all values are of the same clips. Result: "runs" (folder, value), "comparisons" (each
    later run less the first, by paired bootstrap over sources), "seeds" (mean, spread and interval of the mean for
    each set of runs that share everything but the seed), "n", "n_fake". Raises DataError where there is
    nothing to compare, ConfigError for an unknown metric.
    """
    if metric not in METRICS:
        raise ConfigError(f"Unknown metric {metric!r}: choose one of {', '.join(METRICS)}.")
    if len(folders) < 2:
        raise ConfigError("There is one run to compare: name two or more folders.")
    names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise ConfigError("A run is named twice: name each folder once.")
    tables = [_scores(folder) for folder in folders]
    joined = _common(tables)
    labels, sources = joined["label"].to_numpy(int), joined["source"].to_numpy()
    scores = [joined[f"score_{index}"].to_numpy(float) for index in range(len(tables))]
    comparisons = [
        {"run": name, "against": names[0]}
        | paired_bootstrap(labels, each, scores[0], metric, sources, seed=seed).to_dict()
        for name, each in zip(names[1:], scores[1:], strict=True)
    ]
    values = [comparisons[0]["b"], *(pair["a"] for pair in comparisons)]
    return {
        "metric": metric,
        "n": len(joined),
        "n_fake": int(labels.sum()),
        "left_out": max(len(table) for table in tables) - len(joined),
        "runs": [{"run": name, "value": value} for name, value in zip(names, values, strict=True)],
        "comparisons": comparisons,
        "seeds": _seeds(folders, values),
    }


def _scores(folder: Path) -> pd.DataFrame:
    path = Path(folder) / "scores.parquet"
    if not path.is_file():
        raise DataError(f"{folder} holds no scores.parquet: name the folder of a finished run or evaluation.")
    table = pd.read_parquet(path)
    if lacking := [name for name in COLUMNS if name not in table]:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}: it is not of one detector's scores.")
    if table["key"].duplicated().any():
        raise DataError(
            f"{path} holds clips of several test sets twice: compare evaluations of one set each."
        )
    return table[list(COLUMNS)]


def _common(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The clips with a label that all runs scored: key, label, source and score_0, score_1, …"""
    joined = tables[0].rename(columns={"score": "score_0"})
    for index, table in enumerate(tables[1:], start=1):
        other = table[["key", "label", "score"]].rename(columns={"score": f"score_{index}", "label": "other"})
        joined = joined.merge(other, on="key", validate="one_to_one")
        differing = joined["label"].notna() & joined["other"].notna() & (joined["label"] != joined["other"])
        if differing.any():
            raise DataError(
                f"The runs give {int(differing.sum())} clips other labels, such as "
                f"{joined['key'][differing].iloc[0]}: they were made from different manifests."
            )
        joined = joined.drop(columns="other")
    scored = joined.filter(like="score_").notna().all(axis=1) & joined["label"].notna()
    joined = joined[scored]
    if joined["label"].nunique() < 2:
        raise DataError("The runs have no clips of both classes in common that all of them scored.")
    return joined.assign(source=joined["source"].fillna(joined["key"]))


def _seeds(folders: list[Path], values: list[float]) -> list[dict[str, Any]]:
    """Summary of each set of two or more runs whose configurations differ in the seed alone."""
    alike: dict[str, list[tuple[int, float]]] = {}
    for folder, value in zip(folders, values, strict=True):
        path = Path(folder) / "config.yaml"
        if not path.is_file():
            continue
        config = without_place(yaml.safe_load(path.read_text()))
        seed = config.pop("seed", None)
        alike.setdefault(yaml.safe_dump(config), []).append((seed, value))
    found = []
    for runs in alike.values():
        if len({seed for seed, _ in runs}) > 1:
            summary = summarise_values([value for _, value in runs])
            found.append({"seeds": [seed for seed, _ in runs], **summary.to_dict()})
    return found


def as_text(found: dict[str, Any]) -> str:
    """The comparison as lines for a terminal."""
    metric = found["metric"]
    lines = [f"{found['n']} clips, {found['n_fake']} of them fake, judged by all"]
    if found["left_out"]:
        lines[0] += f" ({found['left_out']} left out)"
    lines += [f"{metric} {run['value']:.4f}  {run['run']}" for run in found["runs"]]
    for pair in found["comparisons"]:
        said = f"{pair['run']} less {pair['against']}: {pair['difference']:+.4f}"
        if pair["low"] is None:
            lines.append(f"{said} ({pair['reason']})")
        else:
            better = {"a": "better", "b": "worse", None: "not told apart"}[pair["better"]]
            lines.append(f"{said} [{pair['low']:+.4f}, {pair['high']:+.4f}], p {pair['p']:.3f}: {better}")
    for group in found["seeds"]:
        mean, half = group["mean"], (group["high"] - group["low"]) / 2 if group["low"] is not None else np.nan
        lines.append(
            f"seeds {', '.join(map(str, group['seeds']))}: mean {mean:.4f} ± {half:.4f} (95 %), "
            f"standard deviation {group['std']:.4f}, {group['minimum']:.4f} to {group['maximum']:.4f}"
        )
    return "\n".join(lines)
