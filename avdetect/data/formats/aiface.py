"""AI-Face (Lin et al. 2024): a million faces with gender, age and skin tone, and the CSV files of its kin.

    AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg      family of generators / generator / …
    {train,val,test}.csv                        in the root or in dataset/

Schemas (columns are told by their names, whatever their order; other CSV files are not looked at):

1. as published: `Image Path,Predicted Gender,Predicted Age,Skin Tone,Target,Skin Tone Group,Intersection`
2. older: `Image Path,Uncertainty Score Gender,…,Ground Truth Gender,Ground Truth Age,Ground Truth Race,
   Intersection,Target`
3. the pairs that its UCF training reads: `train_fake_spe.csv` and `train_real.csv`, with a column `Specific`
4. Fairness-Generalization: `img_path,label,ismale,isasian,iswhite,isblack,intersec_label[,spe_label]` in
   `{fake,real}{train,val}.csv` and `test.csv`

Target (or label) 1 is fake. The demographic columns keep the publisher's codes: gender 1 = male, 0 (in schema
4: -1) = not; `intersection` in schema 1: 0-2 women of light, medium, dark skin, 3-5 men. Race in schema 4 is
`asian`, `white`, `black` or `others`. `specific` is 0 real, 1 deepfake video, 2 GAN, 3 diffusion in schema 3, and the
FaceForensics++ method in schema 4. Who is shown is not told: `subject` stays missing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.formats.official import carve_validation, confine_groups
from avdetect.data.manifest import Manifest
from avdetect.data.textfiles import read_table
from avdetect.errors import DataError

DATASET = "AI-Face"
# column of the manifest: the names it has in the CSV files, in small letters
ALIASES = {
    "path": ("image path", "img_path"),
    "label": ("target", "label"),
    "gender": ("predicted gender", "ground truth gender", "gender", "ismale"),
    "age": ("predicted age", "ground truth age", "age"),
    "skin_tone": ("skin tone",),
    "skin_tone_group": ("skin tone group",),
    "race": ("ground truth race", "race"),
    "intersection": ("intersection", "intersec_label"),
    "specific": ("specific", "spe_label"),
}
NEEDED = ("path", "label", "intersection")
SPECIFIC = {"1": "Deepfakes", "2": "Face2Face", "3": "FaceSwap", "4": "NeuralTextures", "5": "FaceShifter"}
RACES = {"isasian": "asian", "iswhite": "white", "isblack": "black"}
FAMILIES = re.compile(r"(dms?|diffusions?|gans?|reals?|fakes?|deepfakes?|deepfake[ _]videos?)", re.IGNORECASE)
TOP = re.compile(r"ai[-_ ]?face.*", re.IGNORECASE)


def _renamed(header: list[str]) -> dict[str, str]:
    """Name in the file -> column of the manifest, as far as the columns are known."""
    names = {name.strip().lower(): name for name in header}
    found = {}
    for column, aliases in ALIASES.items():
        known = [names[alias] for alias in aliases if alias in names]
        found |= {name: column for name in known[:1]}
    uncertainty = {
        n: n.strip().lower().replace(" ", "_") for n in header if n.lower().startswith("uncertainty")
    }
    return found | uncertainty


def _header(file: Path) -> list[str]:
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        return opened.readline().strip().split(",")


def _files(root: Path) -> list[Path]:
    """CSV files of one of the schemas."""
    files = sorted(root.glob("*.csv")) + sorted(root.glob("dataset/*.csv"))
    return [file for file in files if set(NEEDED) <= set(_renamed(_header(file)).values())]


def _split_of(file: Path) -> str | None:
    found = re.search(r"train|val|test", file.stem.lower())
    return found[0] if found else None


def _table(file: Path, root: Path) -> pd.DataFrame:
    raw = read_table(file, dtype="string", skipinitialspace=True)
    raw = raw.apply(lambda column: column.str.strip().str.replace(r"\.0$", "", regex=True))
    table = raw.rename(columns=_renamed(list(raw)))
    table = table[~table["path"].str.lower().isin(ALIASES["path"])]  # joined files repeat the header
    odd = table[table["path"].isna() | ~table["label"].isin(["0", "1"]).fillna(False).astype(bool)]
    if len(odd):
        raise DataError(
            f"{file} line {odd.index[0] + 2}: expected a path and the label 0 (real) or 1 (fake), found "
            f"{odd['path'].iloc[0]!r} and {odd['label'].iloc[0]!r}"
        )
    if set(RACES) <= set(raw):
        race = pd.Series("others", index=table.index, dtype="string")
        for column, name in RACES.items():
            race = race.mask(raw.loc[table.index, column].eq("1").fillna(False).astype(bool), name)
        table["race"] = race
    table["path"], table["root"] = _located(table["path"].str.replace("\\", "/"), root)
    told = [_method_and_source(path) for path in table["path"]]
    table["collection"], table["source"] = [name for name, _ in told], [source for _, source in told]
    if "img_path" in (name.strip().lower() for name in raw):  # schema 4 tells the method, its paths do not
        table["collection"] = table["specific"].map(SPECIFIC) if "specific" in table else pd.NA
        table["source"] = table["path"]
    return table.drop(columns=[column for column in RACES if column in table]).assign(split=_split_of(file))


def _located(paths: pd.Series, root: Path) -> tuple[pd.Series, str | pd.Series]:
    """Relative paths and their roots: a path with a leading slash is relative unless it is there as it is."""
    slashed = paths.str.startswith("/").fillna(False).astype(bool)
    bare = paths.str.replace(r"^(\./|/)+", "", regex=True)
    roots = pd.Series(str(root.resolve()), index=paths.index, dtype="string")
    if slashed.any():
        first = paths[slashed].iloc[0]
        if Path(first).exists() and not (root / first.lstrip("/")).exists():
            roots = roots.mask(slashed, "/")
    return bare, roots


def _method_and_source(path: str) -> tuple[str, str]:
    """Generator (or collection) and group of an image: its folder below that of the generator, else itself."""
    folders = path.split("/")[:-1]
    tops = [place for place, folder in enumerate(folders) if TOP.fullmatch(folder)]
    folders = folders[tops[-1] + 1 :] if tops else folders
    if len(folders) > 1 and FAMILIES.fullmatch(folders[0]):
        folders = folders[1:]
    return (folders[0] if folders else ""), (path.rpartition("/")[0] if len(folders) > 1 else path)


def _merged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One row per image of a split: the pair files repeat rows of train.csv and add a column."""
    table = pd.concat(tables, ignore_index=True)
    labels = table.groupby("path")["label"].nunique()
    if (labels > 1).any():
        name = labels.index[labels > 1][0]
        raise DataError(
            f"the image {name} has the label 0 in one CSV file and 1 in another: remove one of them"
        )
    if table.duplicated(["path", "split"]).any():
        table = table.groupby(["path", "split"], sort=False, dropna=False, as_index=False).first()
    return table


def read(root: Path, seed: int = 0) -> Manifest:
    """Every image of the CSV files, each in the split that its file is named after; val is carved if absent."""
    files = _files(root)
    if not files:
        raise DataError(f"{root} has no CSV file of AI-Face: expected {FORMAT.accepts}")
    table = _merged([_table(file, root) for file in files])
    label = table["label"].astype("Int64")
    table = table.assign(
        kind="image", label=label, visual_label=label, audio_label=pd.NA, dataset=DATASET, subject=pd.NA,
        method=table["collection"].where(label == 1).replace("", pd.NA),
    )  # fmt: skip
    table["split"], carved = carve_validation(table, seed)
    table, shared = confine_groups(table)
    notes = [
        f"{len(table)} images of {', '.join(file.name for file in files)}",
        *filter(None, [carved]),
        *shared,
    ]
    return Manifest(table, root=root, name=DATASET, notes=notes)


FORMAT = DatasetFormat(
    name="aiface",
    accepts="{train,val,test}.csv with the columns Image Path, Target and Intersection (or img_path, label and "
    "intersec_label), in the root or in dataset/, and the images below the root",
    detect=lambda root: root.is_dir() and bool(_files(root)),
    read=read,
)
