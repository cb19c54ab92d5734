"""Work on clips, one task after the other in worker processes, each result written down as it comes.

`records.jsonl` in the report's folder: one line a task. A killed report goes on where it stood; a line counts for
the same task of the same detector alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avdetect.data.workers import run_in_workers
from avdetect.encoders import Encoder, create_encoder
from avdetect.errors import AvdetectError, DataError
from avdetect.inference import Bundle, Detector, load_bundle
from avdetect.media import Clip, load_clip
from avdetect.scan.clip_scores import detector_hash

SCHEMA = "avdetect.genuine_record/1"
Record = dict[str, Any]

# What others published, judged beside the bundle on the same clips: name -> (encoder, file as published).
RIVALS = {
    "AASIST": ("aasist", "AASIST.pth"),
    "Meso4 DF": ("meso4", "Meso4_DF.h5"),
    "Meso4 F2F": ("meso4", "Meso4_F2F.h5"),
    "MesoInception4 DF": ("mesoinception4", "MesoInception_DF.h5"),
    "MesoInception4 F2F": ("mesoinception4", "MesoInception_F2F.h5"),
}
FACE_RIVALS = tuple(name for name in RIVALS if name != "AASIST")


@dataclass(frozen=True)
class Task:
    """A job (a name of `jobs.JOBS`) on prepared clips (`files`, the first is the one judged)."""

    job: str
    files: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @property
    def asked(self) -> list[Any]:
        """What the result follows from, wherever the clips lie: prepared files are named by their clip's key."""
        return [self.job, [Path(file).name for file in self.files], list(self.options), self.seed]

    def rng(self, *what: Any) -> np.random.Generator:
        """Random numbers that belong to the clip, the seed and `what`, whichever worker draws them."""
        text = json.dumps([Path(self.files[0]).name, self.seed, *what])
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()[:16]))


@dataclass
class Tools:
    """What a worker has at hand. generators: of pseudo-fakes by modality, None = those that need none."""

    detector: Detector
    rivals: dict[str, Encoder]
    generators: dict[str, Any]

    @property
    def bundle(self) -> Bundle:
        return self.detector.bundle


@dataclass(frozen=True)
class ToolPaths:
    """Where the tools are read from. weights: folder of published files, None = nothing is judged beside."""

    bundle: str
    weights: str | None
    generators: str | None

    def identity(self) -> list[Any]:
        """The detector by its networks, by what it makes of their logits, and by what it declines to judge."""
        bundle = load_bundle(self.bundle)
        told = [bundle.card["calibration"], bundle.thresholds, bundle.card.get("novelty")]
        return [SCHEMA, detector_hash(bundle), told, self.generators]

    def open(self) -> Tools:
        """Raises WeightsError where a file is missing or damaged."""
        from avdetect.recipes.genuine.generators import open_generators

        rivals = {}
        for name, (encoder, file) in RIVALS.items() if self.weights else ():
            rivals[name] = create_encoder(encoder).load_published(Path(self.weights) / file).eval()
        return Tools(Detector(load_bundle(self.bundle)), rivals, open_generators(self.generators))


def run_tasks(
    tasks: Sequence[Task], paths: ToolPaths, journal: Path, workers: int, say: Callable[[str], None]
) -> list[Record]:
    """One record a task, in their order; a task that failed has `error` (one sentence) alone.

    workers: processes, 0 = this one. Failed tasks are tried again the next time.
    """
    identity = paths.identity()
    ids = [_digest([identity, task.asked]) for task in tasks]
    known = _read(journal)
    left = {key: task for key, task in zip(ids, tasks, strict=True) if key not in known}
    by_task = {task: key for key, task in left.items()}
    say(f"{len(tasks)} tasks, {len(left)} of them to do")
    journal.parent.mkdir(parents=True, exist_ok=True)
    make_work = partial(_make_work, paths, one_thread=workers > 0)
    with open(journal, "a", encoding="utf-8") as out:
        for number, (task, record, death) in enumerate(run_in_workers(left.values(), make_work, workers), 1):
            record = {"error": death} if death else record
            known[by_task[task]] = record
            if "error" not in record:
                out.write(json.dumps({"id": by_task[task], "record": record}, allow_nan=False) + "\n")
                out.flush()
            if number % 200 == 0:
                say(f"{number} of {len(left)} tasks")
    return [known[key] for key in ids]


def _make_work(paths: ToolPaths, one_thread: bool) -> Callable[[Task], Record]:
    if one_thread:
        import torch

        torch.set_num_threads(1)
    from avdetect.recipes.genuine.jobs import JOBS

    tools = paths.open()

    def work(task: Task) -> Record:
        try:
            clips: list[Clip] = [load_clip(file) for file in task.files]
            return JOBS[task.job](task, clips, tools)
        except AvdetectError as error:
            return {"error": str(error)}
        except Exception as error:  # a defect of ours must not cost the figures of all other clips
            return {"error": f"unexpected {type(error).__name__}: {error}"}

    return work


def _read(journal: Path) -> dict[str, Record]:
    """Records by task; what a kill tore off at the end is left out."""
    if not journal.exists():
        return {}
    found = {}
    lines = journal.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
            found[entry["id"]] = entry["record"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{journal} line {number} is damaged ({error}): delete the file to judge all clips anew"
            ) from error
    if lines[-1]:  # so that the next line begins cleanly
        journal.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    return found


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
