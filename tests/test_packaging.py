"""The wheel, installed beside nothing of the checkout, has everything that runs."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Iterator[Path]:
    """Installed into a folder of its own; the checkout is on no path."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)  # else only the superuser could clean up


def run_installed(site: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "AVDETECT_BUNDLE"}
    env |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True)


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


def test_wheel_holds_the_built_in_detector_and_is_small(wheel):
    packed = zipfile.ZipFile(wheel)
    card = json.loads(packed.read("avdetect/weights/builtin/card.json"))
    for entry in (*card["encoders"].values(), card["fusion"], card["novelty"]):
        content = packed.read(f"avdetect/weights/builtin/{entry['file']}")
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert wheel.stat().st_size <= 25_000_000


def test_installed_wheel_runs_the_recipe_and_the_cli(site, tmp_path):
    where = run_installed(
        site, tmp_path, "-P", "-c", "import avdetect, avdetect.recipes as r; print(avdetect.__file__, r.CONFIG_DIR)"
    ).stdout.split()  # fmt: skip
    assert len(where) == 2 and all(Path(path).is_relative_to(site) for path in where)
    assert "predict" in run_installed(site, tmp_path, "-m", "avdetect", "--help").stdout
    shown = run_installed(
        site,
        tmp_path,
        "-m",
        "avdetect.recipes.dfdc_fusion",
        "--cfg",
        "job",
        "encoder/visual=efficientnet_autoatt_b4",
    )
    assert shown.returncode == 0 and "name: efficientnet_autoatt_b4" in shown.stdout
    made = run_installed(
        site, tmp_path, "-m", "avdetect.recipes.dfdc_fusion", "data.demo.clips=12", "stages=[index]"
    )
    assert made.returncode == 0 and "found  DFDC demo" in made.stderr, made.stderr
    assert (site / "bin" / "avdetect").exists()


def test_installed_wheel_judges_offline_and_leaves_itself_alone(site, tmp_path):
    """As on a machine without network where another user has installed the package."""
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    code = (
        "import socket\n"
        "def closed(*_): raise OSError('there is no network here')\n"
        "socket.socket.connect = socket.getaddrinfo = closed\n"
        "from avdetect.cli import main; main()"
    )
    before = _made_read_only(site)
    done = run_installed(site, tmp_path, "-P", "-c", code, "predict", str(photo), "--json")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["kind"] == "image" and Path(verdict["bundle"]["path"]).is_relative_to(site)
    # the superuser may write in spite of the modes: so nothing must have come, gone or changed
    assert _files(site) == before and not list(tmp_path.iterdir())


def _files(site: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in site.rglob("*")}


def _made_read_only(site: Path) -> dict[Path, tuple[int, int]]:
    for path in (site, *site.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return _files(site)


def test_console_script_is_declared():
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        version("avdetect")
    except PackageNotFoundError:
        pytest.skip("a bare checkout: `python -m avdetect` takes the place of the script")
    (script,) = entry_points(group="console_scripts", name="avdetect")
    assert script.value == "avdetect.cli:main"
