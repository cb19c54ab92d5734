"""Recipes: reproducible trainings, one short module each, run as `python -m avdetect.recipes.NAME`."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the configuration lies inside the package, in a checkout beside it.
CONFIG_DIR = str(next(p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir()))
