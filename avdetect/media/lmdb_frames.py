"""Pictures packed into an lmdb database, as DeepfakeBench publishes them: key = path of the picture, value = its bytes.

Keys are written with backslashes (`UADFV\\real\\frames\\0000\\000.png`) or with slashes, depending on the
system on which the database was made; both are found.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from avdetect.errors import MediaError


def lmdb_folder(database: str | Path, folder: str) -> tuple[list[str], Callable[[str], bytes]]:
    """Names of the files in a folder of a database, and a function that gives the bytes of one of them.

    `database`: folder with `data.mdb`; `folder`: with slashes. Folders below it are not looked into; one that
    is not there has no names. Raises MediaError where there is no readable database.
    """
    environment = _opened(os.path.realpath(database), os.getpid())
    names: list[str] = []
    for separator in ("\\", "/"):
        prefix = (folder.replace("/", separator) + separator).encode()
        names = _names_after(environment, prefix, separator.encode())
        if names:
            break
    return names, lambda name: _value(environment, prefix + name.encode())


def _names_after(environment, prefix: bytes, separator: bytes) -> list[str]:
    names = []
    with environment.begin() as transaction, transaction.cursor() as cursor:
        found = cursor.set_range(prefix)
        while found and cursor.key().startswith(prefix):
            name = cursor.key()[len(prefix) :]
            if separator not in name:
                names.append(name.decode("utf-8", "replace"))
            found = cursor.next()
    return names


def _value(environment, key: bytes) -> bytes:
    with environment.begin() as transaction:
        return transaction.get(key, b"")


@functools.lru_cache(maxsize=4)
def _opened(database: str, process: int):
    """The database, opened once in each process (lmdb forbids a second time, and use after a fork)."""
    import lmdb

    if not os.path.isfile(os.path.join(database, "data.mdb")):
        raise MediaError(f"{database} holds no lmdb database (data.mdb): unpack or download it again.")
    try:
        return lmdb.open(database, readonly=True, lock=False, readahead=False, max_readers=128)
    except lmdb.Error as error:
        raise MediaError(
            f"{database} cannot be opened as an lmdb database ({error}): download it again."
        ) from error
