"""The road of every audio-visual recipe, stage by stage; each stage can run alone and is skipped once done."""

from __future__ import annotations

import sys
import time
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console

from avdetect.errors import AvdetectError, ConfigError
from avdetect.recipes.run_folder import RunFolder, open_run

MODALITIES = ("visual", "audio", "lipsync")
STAGES = ("index", "prepare", *MODALITIES, "fusion", "calibrate", "test")


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

    wanted = _wanted(config)
    processes = PartialState()  # one, unless started by `accelerate launch` or `torchrun`

    def say(line: str) -> None:
        if processes.is_main_process:
            console.print(line, markup=False)

    opened: list[Any] = list(open_run(config, STAGES[-1])) if processes.is_main_process else [None, None]
    run, continues = broadcast_object_list(opened)
    say(f"run folder  {run.path}{'  (continued)' if continues else ''}")
    context = Context(config, run, processes, say)
    started = time.perf_counter()
    for stage in wanted:
        if run.result(stage) is not None:
            say(f"{stage}  done before")
        elif stage in MODALITIES:
            context.train_encoder(stage)
        elif stage == "fusion":
            context.fusion()
        else:  # work for one process; the others find it done
            with processes.main_process_first():
                if run.result(stage) is None:
                    getattr(context, stage)()
    say(f"finished in {time.perf_counter() - started:.0f} s")
    if run.result("test") is not None:
        context.summary()
    return run


def _wanted(config: dict[str, Any]) -> list[str]:
    unknown = [name for name in config["stages"] if name not in STAGES]
    if unknown:
        raise ConfigError(f"unknown stage {unknown[0]!r}: choose of {', '.join(STAGES)}")
    modalities = config["modalities"]
    foreign = [name for name in modalities if name not in MODALITIES]
    if foreign or not modalities:
        raise ConfigError("modalities must name some of visual, audio, lipsync")
    skipped = set(MODALITIES) - set(modalities)
    return [stage for stage in STAGES if stage in config["stages"] and stage not in skipped]
