"""Work in processes of its own, where one dying process costs only the task that it had in hand."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from avdetect.errors import ConfigError, DataError

READY = "ready"


def run_in_workers(
    tasks: Iterable[Any], make_work: Callable[[], Callable[[Any], Any]], workers: int
) -> Iterator[tuple[Any, Any, str]]:
    """Yield (task, result, reason) as tasks finish; `reason` is empty, or says how the task's process died.

    `make_work()` is called once in every worker and returns the function that does one task; it must be
    picklable, and the function must not raise. Processes are spawned (torch and ffmpeg do not survive a
    fork); at most `workers` run, and one that dies is replaced. Raises DataError where a worker cannot even
    start, ConfigError for fewer than none. `workers=0` does everything in this process.

    `concurrent.futures` fails all running tasks when one process dies and does not tell which one it was;
    here every worker has its own pipe, so the task that it held is known.
    """
    if workers < 0:
        raise ConfigError(f"{workers} worker processes were asked for: give 0 or more")
    if workers == 0:
        work = make_work()
        for task in tasks:
            yield task, work(task), ""
        return
    waiting = deque(tasks)
    pool = [_Worker(make_work) for _ in range(min(workers, len(waiting)))]
    try:
        while pool:
            ready = wait([worker.pipe for worker in pool])
            for worker in [w for w in pool if w.pipe in ready]:
                done = worker.collect()
                if done is not None:
                    yield done
                if worker.died and waiting:
                    pool.append(_Worker(make_work))
                if worker.died or not waiting:
                    worker.close()
                    pool.remove(worker)
                else:
                    worker.give(waiting.popleft())
    finally:
        for worker in pool:
            worker.process.terminate()
            worker.close()


class _Worker:
    """One process, its pipe, and the task that it holds."""

    def __init__(self, make_work: Callable[[], Callable[[Any], Any]]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, make_work), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe reads as closed when the process is gone
        self.started = self.died = False
        self.task: Any = None

    def give(self, task: Any) -> None:
        self.task = task
        try:
            self.pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died while idle: the pipe reads as closed at the next wait, `collect` names the task

    def collect(self) -> tuple[Any, Any, str] | None:
        """What the worker reports: the finished task, its death, or None when it only says it is ready."""
        try:
            result = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.died = True
            self.process.join()
            how = _death(self.process.exitcode)
            if not self.started:
                raise DataError(
                    f"a worker process could not start ({how}); its own message stands above"
                ) from None
            return self.task, None, f"the worker process that read it {how}"
        if not self.started:
            if result != READY:
                raise DataError(f"a worker process could not start: {result}")
            self.started = True
            return None
        return self.task, result, ""

    def close(self) -> None:
        self.pipe.close()
        self.process.join()


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (often: out of memory)" if name == "SIGKILL" else "")


def _serve(pipe: Connection, make_work: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the parent ends the workers
    try:
        work = make_work()
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    try:
        pipe.send(READY)
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent closed the pipe, or is gone
