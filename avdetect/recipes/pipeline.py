"""The road of every recipe, stage by stage; each stage can run alone and is skipped once done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console

from avdetect.errors import AvdetectError, ConfigError
from avdetect.recipes.run_folder import RunFolder, open_run

if TYPE_CHECKING:
    from avdetect.recipes.stages import Context

MODALITIES = ("visual", "audio", "lipsync")
STAGES = (
    "index", "prepare", "generators", *MODALITIES, "pseudo", "fusion", "calibrate", "test", "analyse", "cross",
)  # fmt: skip
SHARED_STAGES = ("index", "prepare")  # of a zoo: done once for all members


def run_recipe(config: dict[str, Any]) -> RunFolder:
    """Run the wanted stages; on an error that the user can mend, say it in one sentence and exit with 1."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _run(config, console)
    except AvdetectError as error:
        console.print(f"{config['name']}: {error}", style="bold", markup=False)
        sys.exit(1)


def _run(config: dict[str, Any], console: Console) -> RunFolder:
    from avdetect.recipes.stages import Context

    possible = _possible(config)
    wanted = [stage for stage in possible if stage in config["stages"]]
    processes = PartialState()  # one, unless started by `accelerate launch` or `torchrun`

    def say(line: str) -> None:
        if processes.is_main_process:
            console.print(line, markup=False)

    last = "zoo" if config.get("members") else possible[-1]
    opened: list[Any] = list(open_run(config, last)) if processes.is_main_process else [None, None]
    run, continues = broadcast_object_list(opened)
    say(f"run folder  {run.path}{'  (continued)' if continues else ''}")
    context = Context(config, run, processes, say)
    started = time.perf_counter()
    if config.get("members"):
        from avdetect.recipes.zoo import run_zoo

        run_zoo(context, wanted)
        say(f"finished in {time.perf_counter() - started:.0f} s")
        return run
    run_stages(context, wanted)
    say(f"finished in {time.perf_counter() - started:.0f} s")
    if run.result("test") is not None:
        context.summary()
    return run


def run_stages(context: Context, stages: list[str]) -> None:
    """Run these stages of a run in order, those that are done left out."""
    for stage in stages:
        if context.run.result(stage) is not None:
            context.say(f"{stage}  done before")
        elif stage in MODALITIES:
            context.train_encoder(stage)
        elif stage == "fusion":
            context.fusion()
        else:
            by_one_process(context, stage, getattr(context, stage))


def by_one_process(context: Context, stage: str, work: Callable[[], None]) -> None:
    """Work for the main process; the others wait and find it done."""
    with context.processes.main_process_first():
        if context.run.result(stage) is None:
            work()


def _possible(config: dict[str, Any]) -> list[str]:
    """The stages that this recipe has; raises ConfigError where one is asked for that none has."""
    unknown = [name for name in config["stages"] if name not in STAGES]
    if unknown:
        raise ConfigError(f"unknown stage {unknown[0]!r}: choose of {', '.join(STAGES)}")
    modalities = config["modalities"]
    foreign = [name for name in modalities if name not in MODALITIES]
    if foreign or not modalities:
        raise ConfigError("modalities must name some of visual, audio, lipsync")
    skipped = set(MODALITIES) - set(modalities)
    skipped |= set() if config.get("analyses") else {"analyse"}
    skipped |= set() if config["data"].get("cross") else {"cross"}
    skipped |= {name for name in ("generators", "pseudo") if not config.get(name)}
    return [stage for stage in STAGES if stage not in skipped]
