"""Lip-sync: how often the offset is found, what the confidence means, and in step against out of step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from avdetect.evidence import MIN_SYNC_FRAMES
from avdetect.inference.scoring import calibrated
from avdetect.recipes.genuine.context import Context, Row, beside, row
from avdetect.recipes.genuine.engine import Task
from avdetect.recipes.genuine.figures import calibration_error, no_figure, ranking, share

SHIFTS = 2  # random shifts of each clip, beside none
OUT_FRAMES = 5  # 200 ms: from here on sound and lips are out of step
OUT_SHIFTS = 4
NEAR_FRAMES = 1  # an offset this far off is right: 40 ms
JOINED_FRAMES = 125  # 5 s
CALIBRATED = ("<=", 0.05)
JUDGED = ("offset", "confidence", "logit")
EDGE_FRAMES = 3  # shifts keep this far from the ends of what is searched


def lip_rows(context: Context) -> list[Row]:
    """Offset accuracy on speakers never seen, and detection of shifted sound on corpora never seen."""
    if "lipsync" not in context.bundle.encoders:
        return []
    clips = _talking(context)
    own, other = clips[clips["learnt"]], clips[~clips["learnt"]]
    plans = {
        "single": _plan(context, own, _alone(own), SHIFTS, 1, JOINED_FRAMES),
        "joined": _plan(context, own, _joined(own), SHIFTS, 1, JOINED_FRAMES),
        "other": _plan(context, other, _alone(other), OUT_SHIFTS, OUT_FRAMES, None),
        "own": _plan(context, own, _alone(own), OUT_SHIFTS, OUT_FRAMES, None),
    }
    found = _found(context, plans)
    return [
        *_offset_rows(found["single"], "single clips", (">=", 0.8), context.seed),
        *_offset_rows(found["joined"], "5 s of one speaker joined", (">=", 0.95), context.seed),
        _out_row(found["other"], "corpora never seen", (">=", 0.9), context.seed),
        _out_row(found["own"], "corpora of the training, speakers never seen", None, context.seed),
        _calibration_row(context, found["own"]),
    ]


def _talking(context: Context) -> pd.DataFrame:
    """Genuine videos in which a face is seen long enough, with sound."""
    clips = context.genuine()
    long_enough = clips["mouths"].ge(MIN_SYNC_FRAMES) & clips["has_audio"]
    return clips[long_enough.fillna(False).astype(bool) & (clips["kind"] == "video")]


def _alone(clips: pd.DataFrame) -> list[list[Any]]:
    return [[index] for index in clips.index]


def _joined(clips: pd.DataFrame) -> list[list[Any]]:
    """Rows of one subject one after the other until they last `JOINED_FRAMES`; what is left over is not used."""
    chunks = []
    for _, of_subject in clips[clips["subject"].notna()].groupby(["dataset", "subject"], sort=True):
        chunk, frames = [], 0
        for index, mouths in of_subject["mouths"].items():
            chunk.append(index)
            frames += mouths
            if frames >= JOINED_FRAMES:
                chunks.append(chunk)
                chunk, frames = [], 0
    return chunks


def _offset_rows(found: pd.DataFrame, what: str, goal: tuple[str, float], seed: int) -> list[Row]:
    measure = f"lip-sync offset within ±1 frame (40 ms), speakers never seen, {what}"
    if not len(found):
        return [row(measure, no_figure("there is no such clip"), goal)]
    right = (found["offset"] - found["shift"]).abs().le(NEAR_FRAMES).to_numpy()
    unmoved = found["shift"].eq(0).to_numpy()
    groups = found["group"].to_numpy()
    all_ = share(right, groups, seed)
    parts = {
        "as recorded": share(right[unmoved], groups[unmoved], seed),
        "shifted by a known step": share(right[~unmoved], groups[~unmoved], seed),
    }
    by_subject = {
        str(name): float(right[places].mean()) for name, places in found.groupby("subject").indices.items()
    }
    said = f"{beside(parts)}; by speaker {min(by_subject.values()):.2f} to {max(by_subject.values()):.2f}" \
        if by_subject else beside(parts)  # fmt: skip
    sure = _confidence_row(found, right, what, seed)
    return [row(measure, all_, goal, said, parts=parts, by_subject=by_subject), sure]


def _confidence_row(found: pd.DataFrame, right: np.ndarray, what: str, seed: int) -> Row:
    """Whether a high confidence means a right offset."""
    measure = f"lip-sync confidence: AUC of right over wrong offsets, {what}"
    confidence, groups = found["confidence"].to_numpy(float), found["group"].to_numpy()
    if not np.isfinite(confidence).any():
        return row(measure, no_figure("no clip could be judged", len(found)))
    figure = ranking(right.astype(int), confidence, groups, seed=seed)
    upper = confidence >= np.nanmedian(confidence)
    halves = {
        "surer half right": share(right[upper], groups[upper], seed),
        "other half right": share(right[~upper], groups[~upper], seed),
    }
    return row(measure, figure, None, beside(halves), median_confidence=float(np.nanmedian(confidence)))


def _out_row(found: pd.DataFrame, what: str, goal: tuple[str, float] | None, seed: int) -> Row:
    measure = f"lip-sync AUC, in step against sound shifted by 200 ms or more, {what}"
    if not len(found):
        return row(measure, no_figure("there is no such clip in this split"), goal)
    truth, logits = found["shift"].ne(0).to_numpy(int), found["logit"].to_numpy(float)
    groups = found["group"].to_numpy()
    figure = ranking(truth, logits, groups, seed=seed)
    by_dataset = {
        str(name): ranking(truth[places], logits[places], groups[places], seed=seed)
        for name, places in found.groupby("dataset").indices.items()
    }
    return row(measure, figure, goal, beside(by_dataset) if len(by_dataset) > 1 else None, by=by_dataset)


def _calibration_row(context: Context, found: pd.DataFrame) -> Row:
    """ECE on as many clips in step as out of step: of each clip the first shift, as the calibration was fitted."""
    measure = "expected calibration error, lip-sync, half of the clips shifted"
    found = found[found["turn"] <= 1]
    if not len(found):
        return row(measure, no_figure("there is no such clip in this split"), CALIBRATED)
    scores = [
        calibrated(context.bundle, "lipsync", logit) if np.isfinite(logit) else np.nan
        for logit in found["logit"]
    ]
    truth, groups = found["shift"].ne(0).to_numpy(int), found["group"].to_numpy()
    return row(measure, calibration_error(truth, scores, groups, context.seed), CALIBRATED)


def _plan(
    context: Context,
    clips: pd.DataFrame,
    chunks: list[list[Any]],
    shifts: int,
    least: int,
    frames: int | None,
) -> list[tuple[Task, Row]]:
    """Each chunk as it is and with its sound shifted by `shifts` random steps, with group, subject and dataset.

    Steps are of `least` grid frames or more, as far as a third of the chunk and the detector's search allow.
    """
    reach = context.bundle.encoders["lipsync"].reach - EDGE_FRAMES
    planned = []
    for number, chunk in enumerate(chunks):
        length = min(int(clips.loc[chunk, "mouths"].sum()), frames or 10**9)
        furthest = min(reach, length // 3)
        if furthest < least:
            continue
        rng = np.random.default_rng([context.seed, number, least])
        steps = rng.integers(least, furthest, size=shifts, endpoint=True) * rng.choice([-1, 1], size=shifts)
        options = (("shifts", (0, *(int(step) for step in steps))), ("frames", frames))
        task = Task("offsets", tuple(clips.loc[chunk, "file"]), options, context.seed)
        planned.append((task, clips.loc[chunk[0], ["group", "subject", "dataset"]].to_dict()))
    return planned


def _found(context: Context, plans: dict[str, list[tuple[Task, Row]]]) -> dict[str, pd.DataFrame]:
    """Of each plan one row a chunk and shift: `turn` (0 = as it is), `shift`, what was `JUDGED`, and whose it is."""
    records = iter(context.run([task for planned in plans.values() for task, _ in planned]))
    found = {}
    for name, planned in plans.items():
        rows = [
            about | {"turn": turn} | one
            for _, about in planned
            for turn, one in enumerate(next(records).get("found", ()))
        ]
        table = pd.DataFrame(rows, columns=["group", "subject", "dataset", "turn", "shift", *JUDGED])
        found[name] = table.astype(dict.fromkeys(JUDGED, float))
    return found
