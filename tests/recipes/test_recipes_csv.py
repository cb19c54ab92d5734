"""Every row of recipes/recipes.csv runs on its miniature and writes what it says."""

import csv
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from avdetect.data.demo.layouts import list_layouts
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.pipeline import run_recipe

ROOT = Path(__file__).resolve().parents[2]
with open(ROOT / "recipes" / "recipes.csv", newline="", encoding="utf-8") as opened:
    ROWS = list(csv.DictReader(opened))
# These run as a user runs them, the others in this process: starting one costs more than the recipe.
AS_A_COMMAND = ("asvspoof_la",)


@pytest.fixture(scope="session")
def bank(tmp_path_factory) -> Path:
    """Folder of the miniatures, which all rows share."""
    return tmp_path_factory.mktemp("miniatures")


@pytest.mark.parametrize("row", ROWS, ids=[row["recipe"] for row in ROWS])
def test_a_row(row, bank, tmp_path, run_python):
    name = row["recipe"]
    overrides = [*shlex.split(row["smoke"]), f"runs={tmp_path}", f"data.work_dir={bank}"]
    if name in AS_A_COMMAND:
        done = run_python("-m", f"avdetect.recipes.{name}", *overrides, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        run_recipe(compose_recipe(name, overrides))
    (run,) = (tmp_path / name).iterdir()
    missing = [file for file in row["files"].split() if not (run / file).is_file()]
    assert not missing
    assert all((run / file).stat().st_size > 0 for file in row["files"].split())
    assert json.loads((run / "metrics.json").read_text())["selected_on"] == "validation"
    scores, manifest = pd.read_parquet(run / "scores.parquet"), pd.read_csv(run / "manifest.csv")
    test = manifest[manifest["split"] == "test"]
    copies = [
        pd.read_csv(path) for path in run.glob("pseudo/test.csv")
    ]  # of recipes that make fakes themselves
    tested = pd.concat([test, *copies])
    assert set(scores["key"]) == set(tested["dataset"] + "/" + tested["path"])


def test_the_table_is_complete():
    modules = [p for p in (ROOT / "avdetect" / "recipes").glob("*.py") if "main = recipe(" in p.read_text()]
    assert {row["recipe"] for row in ROWS} == {p.stem for p in modules}
    assert {row["recipe"] for row in ROWS} == {p.stem for p in (ROOT / "configs" / "recipe").glob("*.yaml")}
    for row in ROWS:
        assert set(row["layouts"].split()) <= set(list_layouts())
        assert set(re.findall(r"demo:(\w+)", row["smoke"])) == set(row["layouts"].split())


def test_every_recipe_is_told_of_where_its_docstring_says():
    for row in ROWS:
        text = (ROOT / "avdetect" / "recipes" / f"{row['recipe']}.py").read_text()
        (page,) = re.findall(r"See (recipes/\w+/README\.md)", text)
        assert f"avdetect.recipes.{row['recipe']}" in (ROOT / page).read_text(), page
