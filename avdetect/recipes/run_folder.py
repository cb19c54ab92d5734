"""A run folder, `runs/RECIPE/TIME/`: what was asked, where it ran, which stages are done."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from avdetect.errors import ConfigError

# Settings that say where or which part, not what: two runs that differ in these alone are the same run.
PLACE_KEYS = ("run_dir", "stages", "runs", "workers", "fresh")
PACKAGES = "avdetect torch torchvision torchaudio timm facenet-pytorch av librosa accelerate numpy scikit-learn".split()


class RunFolder:
    """Opened by `open_run`."""

    def __init__(self, path: Path):
        self.path = path

    def result(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage wrote down, or None if it is not finished."""
        path = self._marker(stage)
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, stage: str, result: dict[str, Any]) -> dict[str, Any]:
        write_json(self._marker(stage), result)
        return result

    def _marker(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def checkpoints(self, stage: str) -> Path:
        return self.path / "checkpoints" / stage


def open_run(config: dict[str, Any], last_stage: str) -> tuple[RunFolder, bool]:
    """The run folder to work in, and whether it continues an earlier run.

    `run_dir` names one; else the newest folder of this recipe with the same configuration whose last stage is
    not finished is continued; else a new one is made. `fresh=true` always makes a new one.
    """
    parent = Path(config["runs"]) / config["name"]
    if config["run_dir"]:
        path = Path(config["run_dir"])
        if (path / "config.yaml").exists() and not _same(path, config):
            raise ConfigError(
                f"{path} was made with another configuration: give another run_dir or the same settings"
            )
    else:
        path = None if config["fresh"] else _unfinished(parent, config, last_stage)
        path = path or parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    continues = (path / "config.yaml").exists()
    path.mkdir(parents=True, exist_ok=True)
    if not continues:
        write_json(path / "environment.json", environment())
        _write(path / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return RunFolder(path), continues


def _unfinished(parent: Path, config: dict[str, Any], last_stage: str) -> Path | None:
    for path in sorted(parent.glob("*/"), reverse=True):
        if (path / "config.yaml").exists() and _same(path, config):
            return None if RunFolder(path).result(last_stage) is not None else path
    return None


def _same(path: Path, config: dict[str, Any]) -> bool:
    stored = yaml.safe_load((path / "config.yaml").read_text())
    return without_place(stored) == without_place(config)


def without_place(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration computes, without where it does so."""
    return _without_nulls({key: value for key, value in config.items() if key not in PLACE_KEYS})


def _without_nulls(value: Any) -> Any:
    """A setting that is null is as good as absent: a run from before the setting existed is the same run."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(part) for key, part in value.items() if part is not None}


def environment() -> dict[str, Any]:
    """Versions and machine, so that a number can be traced to what made it."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "bare checkout" if name == "avdetect" else "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch_threads": torch.get_num_threads(),
        "packages": versions,
        "commit": _commit(),
        "command": sys.argv,
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None


def write_json(path: Path, value: Any) -> None:
    """Atomic, and strict: NaN has no place in a result."""
    _write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
