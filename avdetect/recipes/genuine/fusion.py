"""Fusion: clips manipulated in one part, or in face and voice, judged by each modality alone and by all together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from avdetect.data.manifest import COLUMNS
from avdetect.data.prepare import RECORD
from avdetect.data.pseudo.clips import METHOD, plan_copies
from avdetect.evidence import MODALITIES
from avdetect.recipes.genuine.context import Context, Row, number, row, told
from avdetect.recipes.genuine.engine import Task
from avdetect.recipes.genuine.figures import difference, no_figure, ranking
from avdetect.recipes.genuine.generators import generator_folders

GOAL = (">=", 0.0)
SCORES = {"fused": "score"} | {name: f"{name}_logit" for name in MODALITIES}


def fusion_rows(context: Context) -> list[Row]:
    """AUC of the fused score less that of the best single modality, for each part that was manipulated."""
    if len(context.bundle.encoders) < 2:
        return []
    clips = context.genuine()
    clips = clips[(clips["kind"] == "video") & clips["fused_logit"].notna()]
    if not len(clips):
        return [row("fusion", no_figure("there is no genuine video that could be judged"), GOAL)]
    copies = _copies(context, clips)
    parts = {part: rows for part, rows in copies.groupby("part", sort=False)}
    return [_part_row(part, clips, rows, context.seed) for part, rows in parts.items()]


def _copies(context: Context, clips: pd.DataFrame) -> pd.DataFrame:
    """One manipulated copy a row: `part`, `kind`, `score`, the logits, `group`, `error`."""
    table = clips[[name for name in clips if name in (*COLUMNS, *RECORD)]].reset_index(drop=True)
    generators = generator_folders(context.generators)
    plan = plan_copies(table, context.bundle.encoders, context.items, context.seed, generators).table
    files, groups = (clips.set_index("key")[name] for name in ("file", "group"))
    tasks = [
        Task("altered", tuple(files[key] for key in (one["made_of"], one["made_with"]) if pd.notna(key)),
             (("made_by", one["made_by"]),), context.seed)
        for _, one in plan.iterrows()
    ]  # fmt: skip
    rows = []
    for (_, one), record in zip(plan.iterrows(), context.run(tasks), strict=True):
        logits, what = record.get("logits", {}), one["method"].removeprefix(METHOD)
        rows.append(
            {
                "part": "face and voice" if "," in one["made_by"] else what.partition(" ")[0],
                "kind": one["made_by"],
                "group": groups[one["made_of"]],
                "score": number(record.get("score")),
                "error": record.get("error"),
            }
            | {f"{name}_logit": number(logits.get(name)) for name in MODALITIES}
        )
    return pd.DataFrame(rows)


def _part_row(part: str, clips: pd.DataFrame, copies: pd.DataFrame, seed: int) -> Row:
    measure = f"fusion: AUC fused less the best single modality, {part} manipulated"
    both = pd.concat([clips.assign(kind=None), copies], ignore_index=True)
    truth = np.repeat([0, 1], [len(clips), len(copies)])
    figures = _figures(truth, both, seed)
    fused = figures.pop("fused")
    single = {name: figure for name, figure in figures.items() if figure["value"] is not None}
    more: dict[str, Any] = {
        "fused": fused, "single": single, "kinds": _by_kind(truth, both, seed),
        "errors": sorted(set(copies["error"].dropna())),
    }  # fmt: skip
    if not single or fused["value"] is None:
        reason = more["errors"][0] if more["errors"] else "too few copies could be judged"
        return row(measure, no_figure(reason, len(copies)), GOAL, **more)
    best = max(single, key=lambda name: single[name]["value"])
    gap = difference(truth, both["score"], both[SCORES[best]], both["group"].to_numpy(), "roc_auc", seed)
    said = "; ".join(f"{name} {told(figure)}" for name, figure in {"fused": fused, **single}.items())
    behind = [kind for kind, each in more["kinds"].items() if _behind(each)]
    said += f"; best single: {best}" + (f"; behind on {', '.join(behind)}" if behind else "")
    return row(measure, gap, GOAL, said, best=best, **more)


def _behind(figures: dict[str, Any]) -> bool:
    """Whether a single modality ranks a kind of copies better than the fused score does."""
    single = [figures[name]["value"] for name in MODALITIES if figures[name]["value"] is not None]
    return figures["fused"]["value"] is not None and figures["fused"]["value"] < max(single, default=0.0)


def _figures(truth: np.ndarray, table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """AUC of the fused score and of every modality."""
    groups = table["group"].to_numpy()
    return {
        name: ranking(truth, table[column].to_numpy(float), groups, seed=seed)
        for name, column in SCORES.items()
    }


def _by_kind(truth: np.ndarray, both: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Fused and single AUC of every kind of manipulation against all genuine clips."""
    found = {}
    for kind in sorted(set(both["kind"].dropna())):
        rows = (truth == 0) | (both["kind"] == kind).to_numpy()
        found[kind] = _figures(truth[rows], both[rows], seed)
    return found
