"""Where a recipe's clips come from: dataset folders, manifests, the demo set, or a miniature of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from avdetect.data import Manifest, read_format
from avdetect.data.demo import make_demo
from avdetect.data.demo.layouts import make_layout
from avdetect.data.demo.miniature import Miniature
from avdetect.data.splits import split_by_source
from avdetect.errors import DataError
from avdetect.evaluation.audit import audit_warnings

MINIATURE = "demo:"  # + the name of a layout, as in `demo:celeb_df`


def is_demo(root: str | None) -> bool:
    """Whether this data.root is made by the program."""
    return root is None or root == "demo" or root.startswith(MINIATURE)


def read_roots(
    roots: str | list[str] | None, config: dict[str, Any], where: str | None, say: Callable[[str], None]
) -> Manifest:
    """One manifest of all clips that have a file and a label and meet `where`; checked, notes said.

    roots: a folder, a manifest file, `demo` (or None), `demo:LAYOUT`, or a list of these. config: the recipe's.
    Raises DataError where nothing is left.
    """
    named = roots if isinstance(roots, list) else [roots]
    parts = [_read_root(root, config, say) for root in named]
    manifest = parts[0] if len(parts) == 1 else Manifest.join(parts, check=False)
    for note in manifest.notes:
        say(f"found  {note}")
    if where:
        manifest = manifest.where(where)
    unlabelled = int(manifest.table["label"].isna().sum())
    if unlabelled:
        say(f"found  {unlabelled} clips without a label, which are left out")
        manifest = manifest.where("label.notna()")
    manifest = manifest.check().existing(say)
    if not len(manifest):
        raise DataError("no clip is left to work with: check data.root and data.where")
    return manifest


def audit_flags(roots: str | list[str] | None) -> list[str]:
    """What the shortcut audits beside the data flagged (`avdetect data audit` writes `audit.json` there)."""
    told = []
    for root in roots if isinstance(roots, list) else [roots]:
        if is_demo(root):
            continue
        folder = Path(root) if Path(root).is_dir() else Path(root).parent
        if (folder / "audit.json").is_file():
            told += [f"{root}: {warning}" for warning in audit_warnings(folder / "audit.json")]
    return told


def with_splits(
    manifest: Manifest, fractions: dict[str, float], seed: int, own: bool, say: Callable[[str], None]
) -> Manifest:
    """Every clip in train, val or test: datasets without splits are dealt by source, with `own` all of them are.

    A clip that stands outside the splits of its dataset is left out: its publisher or its reader put it there, mostly
    because its people are on both sides.
    """
    table = manifest.table.copy()
    without = table["split"].isna()
    undivided = without.groupby(table["dataset"]).transform("all") | own
    outside = without & ~undivided
    if outside.any():
        say(f"found  {int(outside.sum())} clips outside the splits of their dataset, which are left out")
    if undivided.any():
        table.loc[undivided, "split"] = split_by_source(table[undivided], fractions, seed)
    return Manifest(table[~outside], name=manifest.name).check()


def _read_root(root: str | None, config: dict[str, Any], say: Callable[[str], None]) -> Manifest:
    folder = Path(config["data"]["work_dir"])
    if not is_demo(root):
        return read_format("auto", Path(root), seed=config["seed"], check=False)
    if root is not None and root.startswith(MINIATURE):
        name = root.removeprefix(MINIATURE)
        target = folder / f"demo-{name}"
        say(f"index  a miniature of {name} made of drawn talking faces, in {target}")
        if not target.is_dir():
            make_layout(name, target, media=Miniature(folder / "recordings"))
        return read_format("auto", target, seed=config["seed"], check=False)
    demo = config["data"]["demo"]
    target = folder / f"demo-{demo['clips']}-{demo['seed']}"
    say(f"index  the embedded demo set of drawn talking faces, in {target}")
    make_demo(target, clips=demo["clips"], seed=demo["seed"], workers=config["workers"])
    return read_format("dfdc", target)
