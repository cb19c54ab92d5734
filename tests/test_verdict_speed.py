"""The benchmark of a verdict's time."""

import importlib.util
import json
from pathlib import Path

import pytest

from avdetect.inference import save_bundle

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "verdict_speed.py"


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("verdict_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ratio_is_of_medians_over_paired_rounds(speed):
    found = speed.ratio_of([3.0, 1.0, 2.0], [4.0, 4.0, 4.0])
    assert (found["after_s"], found["before_s"], found["ratio"]["value"]) == (2.0, 4.0, 0.5)
    assert found["ratio"]["low"] == 0.25 and found["ratio"]["high"] == 0.75
    steady = speed.ratio_of([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])["ratio"]  # both slow in the same rounds
    assert steady == {"value": 0.5, "low": 0.5, "high": 0.5}


@pytest.mark.slow
def test_the_command_writes_what_the_report_reads(speed, run_python, tmp_path):
    save_bundle(speed.earlier_detector(), tmp_path / "bundle")
    options = ["--bundle", tmp_path / "bundle", "--rounds", "1", "--out", tmp_path / "s.json"]
    done = run_python(SCRIPT, *options, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "s.json").read_text())
    assert told["rounds"] == 1 and told["before_s"] > 0 and told["ratio"]["value"] > 0
