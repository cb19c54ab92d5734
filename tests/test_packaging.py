"""The wheel, installed beside nothing of the checkout, has everything that runs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return file


def test_wheel_holds_configs_and_data_files(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "avdetect/configs/recipe/dfdc_fusion.yaml",
        "avdetect/configs/train/demo.yaml",
        "avdetect/inference/verdict.schema.json",
        "avdetect/report/templates/report.html.j2",
    ):
        assert name in names
    assert not [n for n in names if n.startswith("tests") or n.endswith(".pyc")]


def test_installed_wheel_runs_the_recipe_and_the_cli(wheel, tmp_path):
    """Installed into a folder of its own; the checkout is on no path."""
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import avdetect, avdetect.recipes as r; print(avdetect.__file__, r.CONFIG_DIR)"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert all(Path(path).is_relative_to(site) for path in where)

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True
        )

    assert "predict" in run("-m", "avdetect", "--help").stdout
    shown = run(
        "-m", "avdetect.recipes.dfdc_fusion", "--cfg", "job", "encoder/visual=efficientnet_autoatt_b4"
    )
    assert shown.returncode == 0 and "name: efficientnet_autoatt_b4" in shown.stdout
    made = run("-m", "avdetect.recipes.dfdc_fusion", "data.demo.clips=12", "stages=[index]")
    assert made.returncode == 0 and "found  DFDC demo" in made.stderr, made.stderr
    assert (site / "bin" / "avdetect").exists()


def test_console_script_is_declared():
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        version("avdetect")
    except PackageNotFoundError:
        pytest.skip("a bare checkout: `python -m avdetect` takes the place of the script")
    (script,) = entry_points(group="console_scripts", name="avdetect")
    assert script.value == "avdetect.cli:main"
