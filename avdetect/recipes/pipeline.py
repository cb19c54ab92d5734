"""The road of every audio-visual recipe, stage by stage; each stage can run alone and is skipped once done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from avdetect.errors import AvdetectError, ConfigError
from avdetect.recipes.run_folder import RunFolder, open_run

STAGES = ("index", "prepare", "visual", "audio", "lipsync", "fusion", "calibrate", "test")


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
    run, continues = open_run(config, STAGES[-1])
    console.print(f"run folder  {run.path}{'  (continued)' if continues else ''}", markup=False)
    context = Context(config, run, lambda line: console.print(line, markup=False))
    started = time.perf_counter()
    for stage in wanted:
        if run.result(stage) is not None:
            console.print(f"{stage}  done before", markup=False)
            continue
        _stage_function(context, stage)()
    console.print(f"finished in {time.perf_counter() - started:.0f} s", markup=False)
    if run.result("test") is not None:
        context.summary()
    return run


def _stage_function(context, stage: str) -> Callable[[], None]:
    if stage in ("visual", "audio", "lipsync"):
        return lambda: context.train_encoder(stage)
    return getattr(context, stage)


def _wanted(config: dict[str, Any]) -> list[str]:
    unknown = [name for name in config["stages"] if name not in STAGES]
    if unknown:
        raise ConfigError(f"unknown stage {unknown[0]!r}: choose of {', '.join(STAGES)}")
    modalities = config["modalities"]
    foreign = [name for name in modalities if name not in ("visual", "audio", "lipsync")]
    if foreign or not modalities:
        raise ConfigError("modalities must name some of visual, audio, lipsync")
    skipped = {"visual", "audio", "lipsync"} - set(modalities)
    return [stage for stage in STAGES if stage in config["stages"] and stage not in skipped]
