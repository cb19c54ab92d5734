"""A bounded number of analysing processes, each fed by a thread of the server that also watches its time."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from avdetect.web.settings import Limits, Settings
from avdetect.web.store import Job, JobStore
from avdetect.web.worker import too_much_memory

_LOAD_TIME_S = 180.0
_SWEEP_EVERY_S = 30.0
_IDLE_S = 1.0
_PAUSE_S = 5.0  # before another process is started where the last one could not work

log = logging.getLogger("avdetect.web")


class WorkerDied(Exception):
    """The process ended, or was ended, before it answered; the text says why."""


class Worker:
    """One analysing process."""

    def __init__(self, settings: Settings):
        self._limits = settings.limits
        threads = None if settings.workers == 1 else max(1, (os.cpu_count() or 1) // settings.workers)
        given = {
            "bundle": str(settings.bundle),
            "threads": threads,
            "limits": dataclasses.asdict(settings.limits),
        }
        scratch = settings.data / "scratch"  # on the disk whose room is watched
        self._process = subprocess.Popen(
            [sys.executable, "-m", "avdetect.web.worker", json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            env={**os.environ, "TMPDIR": str(scratch)},
        )  # fmt: skip
        self._messages: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._ready = False

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._messages.put(line)
        self._messages.put(None)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Until the networks are loaded. Raises WorkerDied."""
        if self._ready:
            return
        message = self._next(time.monotonic() + _LOAD_TIME_S, f"did not load within {_LOAD_TIME_S:.0f} s")
        if "ready" not in message:
            raise WorkerDied(f"the detector cannot be loaded ({message.get('fatal')})")
        self._ready = True

    def analyse(self, request: dict[str, str], on_stage: Any) -> dict[str, Any]:
        """{"verdict", "label"} or {"reason"}. Raises WorkerDied."""
        limits = self._limits
        deadline = time.monotonic() + limits.time_s
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDied("the analysing process had ended") from error
        late = f"the analysis took longer than {limits.time_s:.0f} s, the limit: give a shorter file"
        while True:
            message = self._next(deadline, late)
            if "stage" not in message:
                return message
            on_stage(message["stage"])

    def _next(self, deadline: float, late: str) -> dict[str, Any]:
        try:
            line = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self.kill()
            raise WorkerDied(late) from None
        if line is None:
            raise WorkerDied(_cause(self._process.wait(), self._limits))
        return json.loads(line)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _cause(status: int, limits: Limits) -> str:
    """Why a process ended: out of memory shows as abort (C++ cannot allocate) or as a kill by the system."""
    if -status in (6, 9):
        return f"{too_much_memory(limits)} (or a decoder could not stand it: signal {-status})"
    what = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"a decoder crashed on this file ({what}); it may be damaged or made to do that"


class Workers:
    """Runs what the store has queued until stopped, and sweeps out what is too old."""

    def __init__(self, settings: Settings, store: JobStore):
        self._settings, self._store = settings, store
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._running: dict[str, Worker] = {}
        self._alive: set[Worker] = set()
        targets = [self._serve] * settings.workers + [self._sweep]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the processes; their jobs wait for the next start."""
        self._stopping.set()
        self.notify()
        with self._wake:
            running, alive = list(self._running), list(self._alive)
        for job_id in running:
            self._store.give_back(job_id)
        for worker in alive:
            worker.kill()
        for thread in self._threads:
            thread.join(timeout=10)

    def notify(self) -> None:
        """A job was added."""
        with self._wake:
            self._wake.notify_all()

    def cancel(self, job_id: str) -> None:
        """End the process that analyses a job, if one does; call it after the job was deleted."""
        with self._wake:
            worker = self._running.get(job_id)
        if worker is not None:
            worker.kill()

    def _sweep(self) -> None:
        while True:
            self._store.sweep(self._settings.keep_uploads_s, self._settings.keep_results_s)
            if self._stopping.wait(min(_SWEEP_EVERY_S, max(1.0, self._settings.keep_uploads_s / 2))):
                return

    def _serve(self) -> None:
        worker = None
        while not self._stopping.is_set():
            try:
                if worker is None or not worker.alive:
                    worker = self._replace(worker)
                worker.wait_ready()
            except (WorkerDied, OSError) as error:
                if not self._stopping.is_set():
                    log.error("no analysing process: %s", error)
                worker = None
                self._stopping.wait(_PAUSE_S)
                continue
            job = self._store.take()
            if job is None:
                with self._wake:
                    self._wake.wait(_IDLE_S)
                continue
            self._run(job, worker)
        if worker is not None:
            worker.kill()

    def _replace(self, dead: Worker | None) -> Worker:
        worker = Worker(self._settings)
        with self._wake:
            self._alive.discard(dead)
            self._alive.add(worker)
        return worker

    def _run(self, job: Job, worker: Worker) -> None:
        """One job to its verdict or its reason, whatever happens."""
        with self._wake:
            self._running[job.id] = worker
        report = self._store.file(job.id, "report.html")
        draft = report.with_suffix(".tmp")
        request = {"path": str(self._store.file(job.id, "upload")), "name": job.name, "report": str(draft)}
        try:
            answer = worker.analyse(request, lambda stage: self._store.at_stage(job.id, stage))
            if "verdict" in answer:
                _publish(draft, report)
                self._store.finish(job.id, answer["verdict"], answer["label"])
            else:
                self._store.fail(job.id, answer["reason"])
        except WorkerDied as death:
            if not self._stopping.is_set():
                self._store.fail(job.id, str(death))
        except OSError as error:  # the job's folder was deleted, or the disk is full
            self._store.fail(job.id, f"the result could not be kept ({error.strerror})")
        finally:
            with self._wake:
                self._running.pop(job.id, None)


def _publish(draft: Path, report: Path) -> None:
    with open(draft, "rb") as page:
        os.fsync(page.fileno())
    draft.replace(report)
