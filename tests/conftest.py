"""What several tests share: a small demo set and a detector trained on it for a moment, made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# Tests run side by side: threads of their own would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
# Enough to run every stage; the detector knows next to nothing.
SMOKE = (
    "data.demo.clips=24",
    "train.visual.fit.epochs=1",
    "train.audio.fit.epochs=1",
    "train.lipsync.fit.epochs=1",
    "train.fusion.fit.epochs=2",
)


def run(
    *command: str, cwd: Path, env: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess:
    """A command in another folder, with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("AVDETECT_BUNDLE", None)
    environment |= env or {}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def run_python():
    return run


@pytest.fixture(scope="session")
def smoke_overrides() -> tuple[str, ...]:
    return SMOKE


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, worker_id) -> Path:
    """Folder in which `dfdc_fusion` has run through on a small demo set; returns the run folder.

    Made once, by the worker that needs it first: nobody changes what is in it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "smoke"
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            folder.mkdir()  # where a worker has failed before, the others fail here
            done = run("-m", "avdetect.recipes.dfdc_fusion", *SMOKE, cwd=folder)
            assert done.returncode == 0, done.stderr
            (folder / "whole").touch()
    return next((folder / "runs" / "dfdc_fusion").iterdir())


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run) -> Path:
    return smoke_run / "bundle"


@pytest.fixture(scope="session")
def demo_clips(smoke_run) -> list[Path]:
    """Clips of the small demo set: H.264/AAC, one talking face each."""
    return sorted((smoke_run.parents[1] / "data").glob("demo-*/*/*.mp4"))
