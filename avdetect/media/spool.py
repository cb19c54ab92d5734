"""Arrays that grow while a file is read and leave memory when they become large."""

from __future__ import annotations

import tempfile

import numpy as np

SPOOL_BYTES = 64 * 2**20


class SpooledArray:
    """Rows appended one block at a time; beyond `limit_bytes` they lie in an unlinked temporary file.

    `row_shape` is the shape behind the growing first axis. The file has no name (it vanishes with the last
    reference, also after a crash) and lies where `TMPDIR` says.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: type, limit_bytes: int = SPOOL_BYTES):
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.limit_bytes = limit_bytes
        self._blocks: list[np.ndarray] = []
        self._bytes = 0
        self._file = None
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, block: np.ndarray) -> None:
        """Append `block`, shape (n, *row_shape)."""
        block = np.ascontiguousarray(block, self.dtype)
        if block.shape[1:] != self.row_shape:
            raise ValueError(f"rows of shape {block.shape[1:]} do not fit an array of rows {self.row_shape}")
        if not len(block):
            return
        self._rows += len(block)
        self._blocks.append(block)
        self._bytes += block.nbytes
        if self._bytes > self.limit_bytes:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="avdetect-")
        for block in self._blocks:
            self._file.write(block.data)
        self._blocks, self._bytes = [], 0

    def array(self) -> np.ndarray:
        """All rows: an array in memory, or a copy-on-write `np.memmap` where they were spooled to a file."""
        shape = (self._rows, *self.row_shape)
        if self._file is not None:
            self._spill()
            self._file.flush()
            return np.memmap(self._file, self.dtype, mode="c", shape=shape)
        if not self._blocks:
            return np.zeros(shape, self.dtype)
        return np.concatenate(self._blocks)
