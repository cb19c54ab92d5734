"""The demo set as a whole: which clips, in which parts, and how a folder survives a kill."""

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from avdetect.data.demo import fakes
from avdetect.data.demo.clips import ClipPlan, make_clip
from avdetect.errors import ConfigError, DataError

# Parts of each split, inside the ranges of the published DFDC split (train 0-34, val 35-39, test 40-49).
PARTS = {"train": (0, 1, 2), "val": (35,), "test": (40, 41)}
FEWEST_CLIPS = 12
VERSION = 1  # raise it when the same arguments give other clips
STATE_FILE = "demo.json"
TRUTH_FILE = "demo_truth.csv"
TRUTH_COLUMNS = ("path", "label", "visual_label", "audio_label", "method", "subject", "source")
CLIPS_PER_PROCESS = 12  # starting a process costs as much as a few clips

PLAN = 4  # stream of random numbers beside those of `clips`


def make_demo(
    root: Path | str,
    clips: int = 240,
    seed: int = 0,
    seconds: tuple[float, float] = (2.4, 3.2),
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fill `root` with the demo set in the DFDC layout and return it; a complete set is left as it is.

    `root/dfdc_train_part_N/metadata.json` is what DFDC gives; `root/demo_truth.csv` holds the truth per
    modality (1 = manipulated; an out-of-sync clip is a fake whose face and voice are both genuine).
    Same arguments give the same bytes, whatever `workers` is. A run that was killed is continued by the next.

    Args:
        clips: how many, at least 12; 60 % train, 15 % val, 25 % test, about half of each genuine.
        seconds: shortest and longest duration.
        workers: processes; with 1, or for small sets, the calling process does the work.
        progress: called with (clips done, clips in all) after every clip.
    Raises:
        ConfigError: for arguments that cannot be met.
        DataError: if the folder holds something else, or a demo set made with other arguments.
    """
    root = Path(root)
    if clips < FEWEST_CLIPS:
        raise ConfigError(f"The demo set was asked for with {clips} clips; it needs at least {FEWEST_CLIPS}.")
    if not 1.0 <= seconds[0] <= seconds[1]:
        raise ConfigError(
            f"The demo set was asked for with durations {tuple(seconds)}; give two rising ones from 1 s."
        )
    settings = {"version": VERSION, "clips": clips, "seed": seed, "seconds": list(seconds)}
    if _is_complete(root, settings):
        return root
    root.mkdir(parents=True, exist_ok=True)
    _write(root / STATE_FILE, json.dumps(settings | {"complete": False}))
    plans = plan_clips(clips, seed)
    waiting = [plan for plan in plans if not _is_there(root, plan)]
    done = len(plans) - len(waiting)
    for folder in {_staging(root, plan.part) for plan in waiting}:
        folder.mkdir(exist_ok=True)
    jobs = [(plan, _staging(root, plan.part) / plan.name, seed, tuple(seconds)) for plan in waiting]
    for _ in _finished(jobs, min(workers, len(jobs) // CLIPS_PER_PROCESS)):
        done += 1
        if progress is not None:
            progress(done, len(plans))
    for part in sorted({plan.part for plan in plans}):
        if not _part(root, part).exists():
            _publish(root, part, [plan for plan in plans if plan.part == part])
    _write(root / TRUTH_FILE, _truth(plans))
    _write(root / STATE_FILE, json.dumps(settings | {"complete": True}))
    return root


def plan_clips(clips: int, seed: int) -> list[ClipPlan]:
    """Decide on every clip: its name, kind, people and part. Subjects never cross splits."""
    rng = np.random.default_rng([seed, PLAN])
    val, test = max(4, round(0.15 * clips)), max(4, round(0.25 * clips))
    names = _names(clips, rng)
    plans: list[ClipPlan] = []
    first_subject, scene = 0, 0
    for split, count in (("train", clips - val - test), ("val", val), ("test", test)):
        forged = max(len(fakes.METHODS), count // 2)
        genuine = count - forged
        subjects = max(2, -(-2 * genuine // 3))
        parts = PARTS[split]
        people = first_subject + np.arange(genuine) % subjects
        owners = []
        for i in range(genuine):
            part = parts[i * len(parts) // genuine]
            plan = ClipPlan(part, next(names), None, "", int(people[i]), None, scene + i, len(plans))
            owners.append(plan)
            plans.append(plan)
        for i, kind in enumerate(rng.permutation(np.arange(forged) % len(fakes.METHODS))):
            owner, method, donor = owners[i % genuine], fakes.METHODS[kind], None
            if method == fakes.FACE_SWAP:
                step = int(rng.integers(1, subjects))
                donor = first_subject + (owner.subject - first_subject + step) % subjects
            plans.append(
                replace(
                    owner, name=next(names), original=owner.name, method=method, donor=donor, index=len(plans)
                )
            )
        first_subject += subjects
        scene += genuine
    return plans


def _names(count: int, rng: np.random.Generator) -> Iterator[str]:
    """Distinct names of ten letters, as DFDC's."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.choice(letters, 10)) + ".mp4"] = None
    return iter(names)


def _part(root: Path, part: int) -> Path:
    return root / f"dfdc_train_part_{part}"


def _staging(root: Path, part: int) -> Path:
    return root / f".dfdc_train_part_{part}.unfinished"


def _is_there(root: Path, plan: ClipPlan) -> bool:
    return _part(root, plan.part).exists() or (_staging(root, plan.part) / plan.name).exists()


def _is_complete(root: Path, settings: dict) -> bool:
    """Whether this very set stands there whole; refuses to mix with anything else."""
    state = root / STATE_FILE
    if not state.exists():
        if root.is_dir() and any(root.iterdir()):
            raise DataError(
                f"{root} is not empty and holds no demo set; choose another folder for the demo set."
            )
        return False
    try:
        found = json.loads(state.read_text())
        complete = found.pop("complete")
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{state} cannot be read ({error}); delete {root} and make the demo set again."
        ) from error
    if found != settings:
        raise DataError(
            f"{root} holds a demo set made with {found}, not {settings}; delete it or choose another folder."
        )
    return bool(complete)


def _finished(jobs: list[tuple], processes: int) -> Iterator[None]:
    """Do all jobs, yield after each one."""
    if processes < 2:
        for job in jobs:
            make_clip(*job)
            yield
        return
    # spawn: a forked child of a process that has used torch's threads can hang.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(make_clip, *job) for job in jobs]):
            future.result()
            yield


def _publish(root: Path, part: int, plans: list[ClipPlan]) -> None:
    """Give a part whose clips are all there its metadata.json and its name."""
    staging = _staging(root, part)
    entries: dict[str, dict[str, str]] = {}
    for plan in sorted(plans, key=lambda plan: plan.name):
        entry = {"label": "FAKE" if plan.original else "REAL", "split": "train"}
        entries[plan.name] = entry | ({"original": plan.original} if plan.original else {})
    for leftover in staging.glob(".*.tmp"):  # of a run that was killed
        leftover.unlink()
    _write(staging / "metadata.json", json.dumps(entries))
    os.replace(staging, _part(root, part))


def _truth(plans: list[ClipPlan]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(TRUTH_COLUMNS)
    for plan in sorted(plans, key=lambda plan: (plan.part, plan.name)):
        people = [f"s{plan.subject:03d}"] + ([] if plan.donor is None else [f"s{plan.donor:03d}"])
        writer.writerow(
            [
                f"{_part(Path(), plan.part).name}/{plan.name}",
                int(plan.original is not None),
                int(plan.method == fakes.FACE_SWAP),
                int(plan.method == fakes.VOICE_RESYNTHESIS),
                plan.method,
                "+".join(people),
                plan.original or plan.name,
            ]
        )
    return table.getvalue()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
