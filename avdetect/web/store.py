"""Jobs in SQLite, their files beside it: what was accepted survives a kill, and is judged exactly once.

data/jobs.sqlite3            one row per accepted job; the verdict stands in it
data/jobs/ID/upload          what was uploaded, whole before the row is written
data/jobs/ID/report.html     the page, whole before the row says `done`
data/incoming/               uploads under way; emptied at start
data/scratch/                what analyses keep on disk for a moment; emptied at start

A verdict and the state `done` are written in one transaction. A job that was running when the server was killed is
`queued` again at the next start, without a trace of the broken attempt.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

from avdetect.errors import AvdetectError, ConfigError
from avdetect.web.settings import Limits

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
STATES = (QUEUED, RUNNING, DONE, FAILED)
MOST_ATTEMPTS = 3
_TABLE = """CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    state TEXT NOT NULL, stage TEXT, reason TEXT, label TEXT, verdict TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, started REAL, finished REAL, upload_kept INTEGER NOT NULL DEFAULT 1
)"""
_SHOWN = "id, client, name, size_bytes, state, stage, reason, label, attempts, created, started, finished"


@dataclass(frozen=True)
class Sender:
    """Who gives a file: its jobs are counted by its cookie, or by its address while it has shown none."""

    client: str
    address: str
    known: bool = True


class TooManyJobs(AvdetectError):
    """The queue, or one client's share of it, is full."""


@dataclass(frozen=True)
class Job:
    """A row without its verdict. Times are seconds since 1970."""

    id: str
    client: str
    name: str  # as the user wrote it, for display alone
    size_bytes: int
    state: str
    stage: str | None
    reason: str | None  # of `failed`
    label: str | None  # of `done`
    attempts: int
    created: float
    started: float | None
    finished: float | None

    @property
    def ended(self) -> bool:
        return self.state in (DONE, FAILED)


class JobStore:
    """The jobs of one data folder. Safe from several threads; one process at a time (it holds a lock)."""

    def __init__(self, folder: Path):
        """Open or make the folder. Raises ConfigError where another server uses it."""
        self.folder = folder
        for part in (folder, folder / "jobs", folder / "incoming", folder / "scratch"):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = FileLock(folder / "server.lock")
        try:
            self._lock_file.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"{folder} is used by another server that is running: stop it, or name another folder with --data"
            ) from None
        self._lock = threading.Lock()
        self._db = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(_TABLE)
        self._recover()

    def close(self) -> None:
        with self._lock:
            self._db.close()
        self._lock_file.release()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _recover(self) -> None:
        """After a kill: broken attempts are undone, files without a row are deleted."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, reason = ?, stage = NULL, finished = ? WHERE state = ? AND attempts >= ?",
                (FAILED, f"the server broke off {MOST_ATTEMPTS} times while it analysed this file", time.time(),
                 RUNNING, MOST_ATTEMPTS),
            )  # fmt: skip
            db.execute("UPDATE jobs SET state = ?, stage = NULL WHERE state = ?", (QUEUED, RUNNING))
            known = {row[0] for row in db.execute("SELECT id FROM jobs")}
        for folder in (self.folder / "jobs").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder)
        for part in ("incoming", "scratch"):
            shutil.rmtree(self.folder / part)
            (self.folder / part).mkdir(mode=0o700)

    def file(self, job_id: str, name: str) -> Path:
        """`upload` or `report.html` of a job. `job_id` must be that of a `Job`, never a user's text."""
        return self.folder / "jobs" / job_id / name

    def incoming(self) -> Path:
        """A new name for an upload under way."""
        return self.folder / "incoming" / secrets.token_hex(16)

    def check_room(self, sender: Sender, limits: Limits) -> None:
        """Raises TooManyJobs where `add` would; for a look before an upload is read."""
        with self._lock:
            self._check_room(self._db, sender, limits)

    def _check_room(self, db: sqlite3.Connection, sender: Sender, limits: Limits) -> None:
        pending = "SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')"
        if db.execute(pending).fetchone()[0] >= limits.queue:
            raise TooManyJobs(f"{limits.queue} files are waiting already: try again in a while")
        whose = ("client", sender.client) if sender.known else ("address", sender.address)
        mine = db.execute(f"{pending} AND {whose[0]} = ?", whose[1:]).fetchone()[0]
        if mine >= limits.jobs_per_client:
            raise TooManyJobs(
                f"{mine} of your files are waiting already, which is the limit: wait until one is done, or delete one"
            )

    def add(self, upload: Path, sender: Sender, name: str, limits: Limits) -> Job:
        """Accept a whole upload, which moves into the job's folder. Raises TooManyJobs."""
        job_id = secrets.token_hex(16)
        size = upload.stat().st_size
        place = self.file(job_id, "upload")
        place.parent.mkdir(mode=0o700)
        try:
            upload.rename(place)
            with self._transaction() as db:
                self._check_room(db, sender, limits)
                db.execute(
                    "INSERT INTO jobs (id, client, address, name, size_bytes, state, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (job_id, sender.client, sender.address, name, size, QUEUED, time.time()),
                )
        except BaseException:
            shutil.rmtree(place.parent)
            raise
        return self.get(job_id)

    def get(self, job_id: str) -> Job | None:
        with self._lock:
            row = self._db.execute(f"SELECT {_SHOWN} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else Job(**dict(zip((f.name for f in fields(Job)), row, strict=True)))

    def of_client(self, client: str) -> list[Job]:
        """Newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM jobs WHERE client = ? ORDER BY created DESC, rowid DESC", (client,)
            ).fetchall()
        return [job for (job_id,) in rows if (job := self.get(job_id)) is not None]

    def ahead_of(self, job: Job) -> int:
        """Jobs that are taken before a queued one."""
        with self._lock:
            return self._db.execute(
                "SELECT COUNT(*) FROM jobs WHERE state = ? AND rowid < (SELECT rowid FROM jobs WHERE id = ?)",
                (QUEUED, job.id),
            ).fetchone()[0]

    def verdict(self, job_id: str) -> str | None:
        """The verdict as JSON text, as the command line prints it."""
        with self._lock:
            row = self._db.execute("SELECT verdict FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def take(self) -> Job | None:
        """The oldest queued job, now running; None where nothing waits."""
        with self._transaction() as db:
            row = db.execute(
                "UPDATE jobs SET state = ?, started = ?, attempts = attempts + 1, stage = NULL WHERE rowid ="
                " (SELECT rowid FROM jobs WHERE state = ? ORDER BY rowid LIMIT 1) RETURNING id",
                (RUNNING, time.time(), QUEUED),
            ).fetchone()
        return None if row is None else self.get(row[0])

    def at_stage(self, job_id: str, stage: str) -> None:
        with self._transaction() as db:
            db.execute("UPDATE jobs SET stage = ? WHERE id = ? AND state = ?", (stage, job_id, RUNNING))

    def finish(self, job_id: str, verdict: str, label: str) -> None:
        self._end(job_id, DONE, verdict=verdict, label=label)

    def fail(self, job_id: str, reason: str) -> None:
        self._end(job_id, FAILED, reason=reason)

    def _end(self, job_id: str, state: str, **values: str) -> None:
        """Nothing happens to a job that is not running: it was deleted meanwhile."""
        assignments = "".join(f", {name} = ?" for name in values)
        with self._transaction() as db:
            db.execute(
                f"UPDATE jobs SET state = ?, stage = NULL, finished = ?{assignments} WHERE id = ? AND state = ?",
                (state, time.time(), *values.values(), job_id, RUNNING),
            )

    def give_back(self, job_id: str) -> None:
        """A running job waits again: the server stops in good order, which is no failed attempt."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, stage = NULL, attempts = attempts - 1 WHERE id = ? AND state = ?",
                (QUEUED, job_id, RUNNING),
            )

    def delete(self, job_id: str) -> None:
        """The row, then the files: a kill between leaves files without a row, which the next start deletes."""
        with self._transaction() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        shutil.rmtree(self.file(job_id, "upload").parent, ignore_errors=True)

    def sweep(self, keep_uploads_s: float, keep_results_s: float) -> None:
        """Delete uploads and results whose time is over, counted from the end of the analysis."""
        now = time.time()
        with self._lock:
            old = self._db.execute(
                "SELECT id FROM jobs WHERE finished < ?", (now - keep_results_s,)
            ).fetchall()
            used = self._db.execute(
                "SELECT id FROM jobs WHERE finished < ? AND upload_kept", (now - keep_uploads_s,)
            ).fetchall()
        for (job_id,) in old:
            self.delete(job_id)
        for (job_id,) in used:
            self.file(job_id, "upload").unlink(missing_ok=True)
            with self._transaction() as db:
                db.execute("UPDATE jobs SET upload_kept = 0 WHERE id = ?", (job_id,))
