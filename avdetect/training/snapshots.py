"""Which copies of a generator in training are kept, and in which files: half-trained ones leave stronger traces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from avdetect.errors import ConfigError


def check_keep(keep: tuple[float, ...], whose: str) -> None:
    """Raises ConfigError where `keep` are not parts of a training, of the generators named by `whose`."""
    if not keep or not all(0 < part <= 1 for part in keep):
        raise ConfigError(f"the {whose} generators' keep is {list(keep)}: it must be parts in (0, 1]")


def snapshot_files(
    folder: Path, whose: str, kinds: Iterable[str], keep: tuple[float, ...]
) -> dict[str, list[Path]]:
    """Files of each kind of generator, one for each part of `keep`."""
    return {
        kind: [folder / f"{whose}-{kind}-{round(100 * part):03d}.safetensors" for part in keep]
        for kind in kinds
    }


def unfinished(files: dict[str, list[Path]]) -> list[str]:
    """Kinds of which a file is missing: an interrupted stage goes on with these."""
    return [kind for kind, paths in files.items() if not all(path.exists() for path in paths)]


def snapshot_steps(files: list[Path], keep: tuple[float, ...], steps: int) -> dict[int, Path]:
    """After which step of `steps`, counted from 1, which file is written."""
    return {max(1, round(part * steps)): file for part, file in zip(keep, files, strict=True)}
