"""A room imports only rooms that stand above it."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "avdetect"
ROOMS = [
    "errors", "media", "transforms", "weights", "encoders", "evidence", "fusion", "data", "evaluation", "training",
    "inference", "explain", "report", "scan", "web", "recipes", "cli",
]  # fmt: skip


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "avdetect" and len(parts) > 1 else None


def imports_of(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "avdetect")


def test_every_room_has_its_place():
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}
    assert found - {"__init__", "__main__", "__pycache__"} == set(ROOMS)


def test_imports_go_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own not in ROOMS:
            continue
        for module in imports_of(path):
            other = room_of(module)
            if other in ROOMS and ROOMS.index(other) > ROOMS.index(own):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    # `avdetect.Detector` is a convenience of the package's front page, taken lazily.
    assert not wrong, wrong


def test_files_stay_short():
    long = {
        str(p.relative_to(PACKAGE)): n
        for p in PACKAGE.rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long, long


def test_front_page_imports_nothing_heavy():
    heavy = ("torch", "av", "numpy", "pandas")
    code = f"import sys, avdetect, avdetect.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
