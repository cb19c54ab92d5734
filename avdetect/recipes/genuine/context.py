"""What every part of the report is given: the judged clips of the split, and a way to have more work done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from avdetect.evidence import MODALITIES
from avdetect.inference import Bundle
from avdetect.recipes.genuine.engine import FACE_RIVALS, RIVALS, Record, Task
from avdetect.recipes.genuine.figures import Figure, met
from avdetect.recipes.genuine.material import Material

Row = dict[str, Any]
Run = Callable[[Sequence[Task]], list[Record]]


@dataclass
class Context:
    """clips: the material's table with what the detector and its rivals say of every clip, see `judge_all`.

    run: does tasks (`engine.run_tasks`); items: how many clips at most a part takes that makes manipulated
    copies; generators: folder of the networks that make pseudo-fakes, None = only kinds that need none;
    swaps: datasets that the goal for real face swaps is about.
    """

    material: Material
    bundle: Bundle
    clips: pd.DataFrame
    run: Run
    items: int
    seed: int
    generators: str | None
    swaps: tuple[str, ...]

    def genuine(self) -> pd.DataFrame:
        """Clips whose label is genuine."""
        return self.clips[self.clips["label"].eq(0).fillna(False).astype(bool)]

    def sample(self, table: pd.DataFrame, count: int | None = None) -> pd.DataFrame:
        """At most `count` (`items`) rows, always the same ones."""
        count = self.items if count is None else count
        return table if len(table) <= count else table.sample(count, random_state=self.seed).sort_index()


def judge_all(material: Material, run: Run, items: int, seed: int) -> pd.DataFrame:
    """The table with columns `said` (label of the verdict), `error`, and of every score P(fake) and logit.

    Columns `score` (fused), `visual`, `audio`, `lipsync`, each with `NAME_logit`, `offset_frames`, `confidence`,
    and one column a rival with its logit. AASIST is slow: of videos it hears `items`.
    """
    table = material.table
    faces, voices = table["tracks"].gt(0).fillna(False), table["has_audio"].fillna(False).astype(bool)
    videos = table[voices & (table["kind"] == "video") & table["audio_label"].notna()]
    heard = set(videos.sample(min(items, len(videos)), random_state=seed).index)
    heard |= set(table.index[voices & (table["kind"] == "audio") & table["audio_label"].notna()])
    tasks = []
    for index, row in table.iterrows():
        wanted = FACE_RIVALS if faces[index] and pd.notna(row["visual_label"]) else ()
        wanted += ("AASIST",) if index in heard else ()
        tasks.append(Task("judge", (row["file"],), (("rivals", wanted),)))
    said = pd.DataFrame([_flat(record) for record in run(tasks)], index=table.index)
    return pd.concat([table, said], axis=1)


def _flat(record: Record) -> Row:
    if "error" in record:
        empty = {"said": None, "error": record["error"], "score": np.nan, "fused_logit": np.nan}
        empty |= dict.fromkeys([*MODALITIES, *(f"{name}_logit" for name in MODALITIES), *RIVALS], np.nan)
        return empty | {"offset_frames": np.nan, "confidence": np.nan}
    flat = {"said": record["label"], "error": None, "score": number(record["score"])}
    for name in MODALITIES:
        flat[name] = number(record["scores"][name])
        flat[f"{name}_logit"] = number(record["logits"][name])
    flat["fused_logit"] = number(record["logits"]["fused"])
    flat |= {name: number(record["rivals"].get(name)) for name in RIVALS}
    return flat | {name: number(record[name]) for name in ("offset_frames", "confidence")}


def number(value: float | None) -> float:
    """None as NaN."""
    return np.nan if value is None else float(value)


def partners(clips: pd.DataFrame, seed: int) -> dict[Any, str]:
    """For each clip the file of one of another person: of another subject where they are known."""
    rng = np.random.default_rng(seed)
    who = clips["subject"].fillna(clips["source"]).fillna(clips["key"]).to_numpy(object)
    files, found = clips["file"].to_numpy(object), {}
    for place, index in enumerate(clips.index):
        others = np.flatnonzero(who != who[place])
        found[index] = str(files[rng.choice(others)] if len(others) else files[place])
    return found


def row(
    measure: str,
    figure: Figure,
    goal: tuple[str, float] | None = None,
    beside: str | None = None,
    **more: Any,
) -> Row:
    """One line of the table. beside: what stands next to the figure, in words; more: kept in the JSON alone."""
    return {
        "measure": measure, "goal": None if goal is None else f"{goal[0]} {goal[1]:g}", "figure": figure,
        "met": met(figure, goal), "beside": beside, **more,
    }  # fmt: skip


def told(figure: Figure) -> str:
    """A figure in a few characters: "0.912 [0.880, 0.941]"."""
    if figure["value"] is None:
        return f"not measured ({figure['reason']})"
    interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['value']:.3f}{interval}"


def beside(figures: dict[str, Figure]) -> str | None:
    """Several figures in one line; None where there is none."""
    return "; ".join(f"{name} {told(figure)}" for name, figure in figures.items()) or None
