"""The cache of published checkpoints: only files that were verified, or imported and loaded, get in.

The folder is `$AVDETECT_CACHE`, else the platform's cache folder for avdetect.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pooch

from avdetect.errors import WeightsError
from avdetect.weights.catalog import Published
from avdetect.weights.download import Progress, ResumingDownloader, not_written
from avdetect.weights.hashing import sha256_file


def cache_folder() -> Path:
    """Where published checkpoints are kept; it may not exist yet."""
    return Path(os.environ.get("AVDETECT_CACHE") or pooch.os_cache("avdetect"))


def place(entry: Published) -> Path:
    """Where the file is, or would be, in the cache."""
    return cache_folder() / entry.filename


def _record(entry: Published) -> Path:
    """Beside a file without a published hash: the hash it was imported with, as sha256sum writes it."""
    return cache_folder() / f"{entry.filename}.sha256"


def is_cached(entry: Published) -> bool:
    """Whether the file is there; it is not read."""
    return place(entry).is_file()


def known_hash(entry: Published) -> str | None:
    """The published SHA-256, else the one recorded when the file was imported, else None."""
    if entry.sha256:
        return entry.sha256
    record = _record(entry)
    return record.read_text(encoding="utf-8").partition(" ")[0] if record.is_file() else None


def cached_file(entry: Published) -> Path:
    """The file in the cache, its hash checked; nothing is downloaded.

    Raises `WeightsError` where it is not there or was changed since.
    """
    path = place(entry)
    if not path.is_file():
        raise WeightsError(f"The weights {entry.name} are not in the cache; run `{_how_to_get(entry)}`.")
    if sha256_file(path) != known_hash(entry):
        raise WeightsError(
            f"{path} is not the file that was published or imported as {entry.name} (other SHA-256);"
            f" run `{_how_to_get(entry)}` again."
        )
    return path


def _how_to_get(entry: Published) -> str:
    if entry.sha256:
        return f"avdetect weights pull {entry.name}"
    return f"avdetect weights import FILE --as {entry.name}"


def pull(
    entry: Published,
    progress: Progress | None = None,
    timeout_s: float = 30.0,
    attempts: int = 4,
    wait_s: float = 1.0,
) -> Path:
    """Fetch the file unless a good one is in the cache; the path in the cache.

    An interrupted download is continued; the file gets its name only with the right SHA-256; one process
    fetches while others that want the same file wait. timeout_s, attempts, wait_s: see `ResumingDownloader`.
    Raises `WeightsError`; a good file that was there before stays.
    """
    if entry.sha256 is None:
        raise WeightsError(
            f"No SHA-256 is known for {entry.name}, and nothing is downloaded that cannot be verified; get"
            f" {entry.url} by hand and run `avdetect weights import FILE --as {entry.name}`."
        )
    with _writing() as folder:
        part = folder / f".{entry.filename}.part"
        with filelock.FileLock(folder / f".{entry.filename}.lock"):
            downloader = ResumingDownloader(part, progress, timeout_s, attempts, wait_s)
            good = _retrieve(entry, folder, downloader)
            if not good and downloader.resumed:
                # the part may have been of an earlier version of the file: once more from the beginning
                good = _retrieve(entry, folder, downloader)
    if not good:
        raise WeightsError(
            f"What {entry.url} holds is not {entry.name} (its SHA-256 does not begin with"
            f" {entry.sha256[:12]}); the download was thrown away, nothing else was changed."
        )
    return place(entry)


def _retrieve(entry: Published, folder: Path, downloader: ResumingDownloader) -> bool:
    """Whether the file is now there with the right hash."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # pooch reports every download; the progress bar does already
    try:
        pooch.retrieve(entry.url, f"sha256:{entry.sha256}", entry.filename, folder, downloader=downloader)
    except ValueError:  # pooch's word for another hash: it has deleted the download
        return False
    finally:
        logger.setLevel(level)
    return True


def import_file(path: str | Path, entry: Published, check: Callable[[Path], object]) -> Path:
    """Copy a file that the user has into the cache as `entry`; the path in the cache.

    The SHA-256 must be the published one where there is one; otherwise it is recorded and checked from then on.
    check: loads the copy into its network and raises where it does not fit; only then the copy gets its name.
    Raises `WeightsError`; nothing in the cache changes then.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"The file {path} does not exist; give the path of a downloaded checkpoint.")
    with _writing() as folder, tempfile.TemporaryDirectory(dir=folder, prefix=".import-") as beside:
        copy = (
            Path(beside) / entry.filename
        )  # the suffix says how it is read, whatever the user's file is called
        shutil.copyfile(path, copy)
        found = sha256_file(copy)
        if entry.sha256 and found != entry.sha256:
            raise WeightsError(
                f"{path} is not {entry.name}: its SHA-256 is {found}, the published one {entry.sha256}."
            )
        try:
            check(copy)
        except WeightsError as error:  # it names the copy, which the user does not know
            raise WeightsError(str(error).replace(str(copy), str(path))) from error
        if not entry.sha256:
            record = Path(beside) / _record(entry).name
            record.write_text(f"{found}  {entry.filename}\n", encoding="utf-8")
            os.replace(record, _record(entry))
        os.replace(copy, place(entry))
    return place(entry)


@contextmanager
def _writing() -> Iterator[Path]:
    """The cache folder, made where it is missing; what hinders writing becomes one sentence."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise not_written(folder, error) from error
