"""Faces: real swaps, other labelled sources, pseudo-fakes of people never seen; beside MesoNet on the same crops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from avdetect.recipes.genuine.context import Context, Row, beside, number, partners, row, told
from avdetect.recipes.genuine.engine import FACE_RIVALS, Task
from avdetect.recipes.genuine.figures import FEWEST, difference, mean_over_kinds, no_figure, ranking
from avdetect.recipes.genuine.generators import face_kinds

CROPS = 4  # of a track, in a pseudo-fake
SWAP_GOAL, PSEUDO_GOAL = (">=", 0.9), (">=", 0.97)


def face_rows(context: Context) -> list[Row]:
    """AUC on every labelled source of fakes; sources of few clips are told clip by clip."""
    if "visual" not in context.bundle.encoders:
        return []
    clips = context.clips
    clips = clips[clips["visual_label"].notna() & clips["visual_logit"].notna()]
    strangers = clips[clips["visual_label"].eq(0) & (clips["kind"] == "video") & ~clips["learnt"]]
    rows = []
    for (name, method), fakes in clips[clips["visual_label"].eq(1)].groupby(
        ["dataset", clips["method"].fillna("fakes")], sort=True
    ):
        genuine = clips[(clips["dataset"] == name) & clips["visual_label"].eq(0)]
        against = "its own genuine"
        if not len(genuine) and fakes["kind"].eq("video").all():
            genuine, against = strangers, "genuine clips of other corpora never seen"
        what = f"{name}: {method} against {against}"
        if min(len(fakes), len(genuine)) < FEWEST:
            rows.append(_told_one_by_one(f"{name}: {method}", pd.concat([fakes, genuine.head(FEWEST)])))
            continue
        goal = SWAP_GOAL if name in context.swaps else None
        rows.append(_compared(pd.concat([fakes, genuine]), f"face AUC, {what}", goal, context.seed))
    return rows


def _compared(clips: pd.DataFrame, measure: str, goal: tuple[str, float] | None, seed: int) -> Row:
    truth, groups = clips["visual_label"].to_numpy(int), clips["group"].to_numpy()
    ours = clips["visual_logit"].to_numpy(float)
    figure = ranking(truth, ours, groups, seed=seed)
    others = {
        name: ranking(truth, clips[name].to_numpy(float), groups, seed=seed)
        for name in FACE_RIVALS
        if clips[name].notna().any()
    }
    best = max(others, key=lambda name: others[name]["value"] or 0.0, default=None)
    more: dict[str, Any] = {"rivals": others}
    if best is not None:
        more["gap"] = difference(truth, ours, clips[best].to_numpy(float), groups, "roc_auc", seed)
        more["gap"]["rival"] = best
    return row(measure, figure, goal, beside(others), **more)


def _told_one_by_one(what: str, clips: pd.DataFrame) -> Row:
    """Scores of so few clips that an AUC would be theatre."""
    said = [
        f"{clip['path'].rpartition('/')[2]} ({'fake' if clip['visual_label'] == 1 else 'genuine'}) "
        f"{clip['visual']:.2f}"
        for _, clip in clips.iterrows()
    ]
    scores = clips[["key", "visual_label", "visual", *FACE_RIVALS]].astype(object)
    told_ = scores.where(scores.notna(), None).to_dict("records")
    return row(
        f"face P(fake), {what}", no_figure("too few clips for an AUC", len(clips)), None, "; ".join(said),
        clips=told_,
    )  # fmt: skip


def pseudo_face_rows(context: Context) -> list[Row]:
    """AUC on pseudo-fakes of this split's genuine faces, whose people no training saw: each kind, and their mean."""
    if "visual" not in context.bundle.encoders:
        return []
    clips = context.genuine()
    clips = clips[clips["visual_logit"].notna() & clips["learnt"]]
    chosen = [context.sample(of_dataset) for _, of_dataset in clips.groupby("dataset", sort=True)]
    found = _pseudo(context, chosen, face_kinds(context.generators))
    return [_pseudo_row(of_dataset, str(name), context.seed) for name, of_dataset in found.groupby("dataset")]


def _pseudo(context: Context, datasets: list[pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """One row a clip and kind (None = genuine): `dataset`, `kind`, `truth`, `group`, `logit` and a column a rival."""
    asked, tasks = [], []
    for clips in datasets:
        others = partners(clips, context.seed)
        for index, clip in clips.iterrows():
            for kind in [None, *names]:
                options = (("kind", kind), ("crops", CROPS), ("rivals", True))
                tasks.append(Task("fake_face", (clip["file"], others[index]), options, context.seed))
                about = {"dataset": clip["dataset"], "group": clip["group"]}
                asked.append(about | {"kind": kind, "truth": int(kind is not None)})
    rows = [
        about
        | {"logit": number(record.get("logit"))}
        | {name: number(record.get("rivals", {}).get(name)) for name in FACE_RIVALS}
        for about, record in zip(asked, context.run(tasks), strict=True)
    ]
    return pd.DataFrame(rows, columns=["dataset", "group", "kind", "truth", "logit", *FACE_RIVALS])


def _pseudo_row(found: pd.DataFrame, name: str, seed: int) -> Row:
    """The mean over kinds, with every kind in the JSON and the worst in words."""
    found = found[np.isfinite(found["logit"].to_numpy(float))]
    measure = f"face AUC, pseudo-fakes of people never seen, {name}, mean over kinds"
    if found["truth"].nunique() < 2:
        return row(measure, no_figure("no pseudo-fake could be judged", len(found)), PSEUDO_GOAL)
    truth, groups = found["truth"].to_numpy(int), found["group"].to_numpy()
    of_kind = found["kind"].to_numpy(object)

    def mean(column: str) -> dict[str, Any]:
        return mean_over_kinds(truth, found[column].to_numpy(float), of_kind, groups, "roc_auc", seed)

    ours = mean("logit")
    rivals = {name: mean(name) for name in FACE_RIVALS if found[name].notna().all()}
    each = {kind: figure for kind, figure in ours["kinds"].items() if figure["value"] is not None}
    worst = min(each, key=lambda kind: each[kind]["value"], default=None)
    words = [part for part in (worst and f"worst {worst} {told(each[worst])}", beside(rivals)) if part]
    return row(measure, ours, PSEUDO_GOAL, "; ".join(words) or None, rivals=rivals)
