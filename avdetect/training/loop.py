"""The one training loop: every encoder and the fusion head are trained by it.

A task says what a batch is and what the loss is; the loop does the rest: devices and precision (accelerate),
learning rate, validation, early stopping, checkpoints, and a resume that continues as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from avdetect.data.guard import check_closed
from avdetect.errors import ConfigError
from avdetect.training.average import Average
from avdetect.training.checkpoints import load_state, save_state
from avdetect.training.history import History
from avdetect.training.optim import build_optimizer, freeze, schedule_factor, train_mode
from avdetect.training.settings import FitSettings
from avdetect.training.tensorboard import TensorBoard

Report = Callable[[str], None]
_watcher: ContextVar[Callable[[list[dict]], None] | None] = ContextVar("epoch_watcher", default=None)


@contextmanager
def watching(watcher: Callable[[list[dict]], None]) -> Iterator[None]:
    """Call `watcher` after each epoch of every `fit` inside, with the stage's rows so far, as in `history.jsonl`.

    The checkpoint has been written by then: what the watcher raises ends the training, which can be continued.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Task(Protocol):
    """One thing to learn."""

    name: str
    model: nn.Module
    train_loader: DataLoader
    val_loader: DataLoader

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass over `train_loader` that of this epoch."""

    def step(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Losses by name; `loss` is the one that is minimised, the others are logged."""

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """What validation keeps of a batch: tensors (N,), among them `clip`, a number >= 0 per clip."""

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        """Validation metrics of all gathered outputs; holds `loss` and the monitored one."""


@dataclass(frozen=True)
class FitResult:
    best_epoch: int  # from 1; 0 where the weights were kept as they were
    epochs: int
    metrics: dict[str, float]  # of the best epoch, on validation
    seconds: float


def fit(
    task: Task, settings: FitSettings, folder: Path, history: History, report: Report = print
) -> FitResult:
    """Train `task.model` and leave the best weights (by validation) in it.

    folder: holds `last.pt` and `best.pt`; a `last.pt` that is there is continued from, and the result is the
    same as that of a run that was never interrupted (same machine, same number of processes). With 0 epochs the
    weights are kept, and only validated. Raises DataError while the test split is open (`avdetect.data.guard`).
    """
    check_closed("training")
    return _Fit(task, settings, folder, history, report).run()


class _Fit:
    def __init__(self, task: Task, settings: FitSettings, folder: Path, history: History, report: Report):
        self.task, self.settings, self.folder, self.history, self.report = (
            task,
            settings,
            folder,
            history,
            report,
        )
        # Accelerate keeps one precision for a process and has no public way to change it; the stages have their own.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(mixed_precision=_precision(settings.precision))
        self.frozen = freeze(task.model, settings)
        optimizer, self.scales = build_optimizer(task.model, settings)
        self.model, self.optimizer, self.train_loader, self.val_loader = self.accelerator.prepare(
            task.model, optimizer, task.train_loader, task.val_loader
        )
        self.average = None if settings.average is None else Average(task.model, settings.average)
        self.epoch, self.step_count = 0, 0
        self.rows: list[dict] = []
        self.seconds = 0.0
        self.lr, self.lr_factor = settings.lr, 1.0  # without the groups' scales; of the plateau schedule
        self.log = None
        if self.accelerator.is_main_process and settings.epochs > 0:
            self.log = TensorBoard(history.path.parent / "tensorboard" / task.name)

    def run(self) -> FitResult:
        try:
            result = self._kept() if self.settings.epochs == 0 else self._trained()
        finally:
            if self.log:
                self.log.close()
        for parameter in self.frozen:  # for whoever trains the network further
            parameter.requires_grad_(True)
        self.accelerator.free_memory()
        return result

    def _kept(self) -> FitResult:
        val, _ = self._validate()
        self.report(f"{self.task.name}  weights kept as they are  {_line(val)}")
        return FitResult(0, 0, val, 0.0)

    def _trained(self) -> FitResult:
        self._resume()
        while self.epoch < self.settings.epochs and not self._exhausted():
            started = time.perf_counter()
            train = self._train_epoch()
            with self.average.in_place() if self.average else nullcontext():
                val, outputs = self._validate()
            self.seconds += time.perf_counter() - started
            self._record(train, val)
            if self.log:
                self.log.epoch(self.rows[-1], outputs)
            self.epoch += 1
            self._save()
            if (watcher := _watcher.get()) is not None:
                watcher(self.rows)
        best = self.rows[self._best()]
        self.accelerator.wait_for_everyone()
        self.task.model.load_state_dict(load_state(self.folder / "best.pt")["model"])
        metrics = {key.removeprefix("val/"): value for key, value in best.items() if key.startswith("val/")}
        if self.log:
            self.log.outcome(self.task, self.settings, metrics, best["epoch"], self.accelerator.device)
        return FitResult(best["epoch"], len(self.rows), metrics, self.seconds)

    # -- one epoch ------------------------------------------------------------------------------------------

    def _train_epoch(self) -> dict[str, float]:
        # Everything random in an epoch follows from (seed, epoch): that makes a resume exact.
        torch.manual_seed(self.settings.seed * 100_003 + self.epoch)
        self.task.set_epoch(self.epoch)
        self.train_loader.iteration = self.epoch  # accelerate counts by itself, from 0 after a resume
        train_mode(self.model)
        sums: dict[str, float] = {}
        with self._bar() as bar:
            shown = bar.add_task(f"{self.task.name}  epoch {self.epoch + 1}", total=len(self.train_loader))
            for batch in self.train_loader:
                for key, value in self._step(batch).items():
                    sums[key] = sums.get(key, 0.0) + float(value.detach())
                bar.advance(shown)
        return {key: value / len(self.train_loader) for key, value in sums.items()}

    def _step(self, batch: Any) -> dict[str, Tensor]:
        self._set_lr()
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            losses = self.task.step(self.model, batch)
        if not torch.isfinite(losses["loss"]):
            raise ConfigError(
                f"the {self.task.name} loss became {losses['loss'].item()} in epoch {self.epoch + 1}: "
                "lower the learning rate or set precision=no"
            )
        self.accelerator.backward(losses["loss"])
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.step_count += 1
        if self.average:
            self.average.update(self.step_count)
        return losses

    def _bar(self) -> Progress:
        """On a terminal only, and gone when the epoch is over: its line of numbers stays."""
        console = Console(stderr=True)
        shown = console.is_terminal and self.accelerator.is_main_process
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=console, transient=True, disable=not shown)

    def _set_lr(self) -> None:
        s = self.settings
        factor = schedule_factor(s, self.step_count, s.epochs * len(self.train_loader)) * self.lr_factor
        self.lr = s.lr * factor
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = self.lr * scale

    @torch.inference_mode()
    def _validate(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics of the validation set, and what they were worked out from."""
        self.model.eval()
        parts: list[dict[str, np.ndarray]] = []
        for batch in self.val_loader:
            outputs = self.task.predict(self.model, batch)
            # Processes may hold batches of different length: pad, gather, drop the padding.
            padded = self.accelerator.pad_across_processes(outputs, pad_index=-1)
            gathered = self.accelerator.gather(padded)
            real = gathered["clip"] >= 0
            parts.append({key: value[real].float().cpu().numpy() for key, value in gathered.items()})
        outputs = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return self.task.metrics(outputs), outputs

    # -- keeping track --------------------------------------------------------------------------------------

    def _goal(self, row: dict) -> tuple[float, float]:
        """What is maximised; equal values of the monitored metric are told apart by the loss."""
        name = self.settings.monitor.removeprefix("-")
        if f"val/{name}" not in row:
            known = ", ".join(sorted(key.removeprefix("val/") for key in row if key.startswith("val/")))
            raise ConfigError(
                f"{self.task.name} has no validation metric {name!r} to monitor: choose of {known}"
            )
        value = round(row[f"val/{name}"], 4)
        return (-value if self.settings.monitor.startswith("-") else value), -row["val/loss"]

    def _best(self) -> int:
        return max(range(len(self.rows)), key=lambda index: self._goal(self.rows[index]))

    def _exhausted(self) -> bool:
        if self.settings.lr * self.lr_factor < self.settings.lr_stop:
            return True
        return bool(self.rows) and len(self.rows) - 1 - self._best() >= self.settings.patience

    def _record(self, train: dict[str, float], val: dict[str, float]) -> None:
        row: dict[str, Any] = {"stage": self.task.name, "epoch": self.epoch + 1, "steps": self.step_count}
        row["lr"] = self.lr
        row |= {f"train/{key}": value for key, value in train.items()}
        row |= {f"val/{key}": value for key, value in val.items()}
        row["seconds"] = round(self.seconds, 2)
        self._goal(row)  # a metric that is not there is said before anything is kept
        self.rows.append(row)
        if self.settings.schedule == "plateau":
            since = len(self.rows) - 1 - self._best()
            if since and since % self.settings.plateau_interval == 0:
                self.lr_factor *= self.settings.plateau_factor
        self.report(
            f"{self.task.name}  epoch {row['epoch']}/{self.settings.epochs}  loss {train['loss']:.4f}  "
            f"{_line(val)}  {self.seconds:.0f} s"
        )

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        model = {
            key: value.cpu() for key, value in self.accelerator.unwrap_model(self.model).state_dict().items()
        }
        if self._best() == len(self.rows) - 1:
            kept = self.average.state if self.average else model
            save_state({"model": kept, "epoch": self.epoch}, self.folder / "best.pt")
        state = {
            "model": model,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step_count": self.step_count,
            "rows": self.rows,
            "seconds": self.seconds,
            "lr_factor": self.lr_factor,
            "settings": self.settings.to_dict(),
        }
        if self.average:
            state["average"] = self.average.state
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        save_state(state, self.folder / "last.pt")
        self.history.replace(self.task.name, self.rows)

    def _resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = load_state(path)
        # A checkpoint from before a setting existed was made with what is now its default.
        if FitSettings().to_dict() | state["settings"] != self.settings.to_dict():
            raise ConfigError(
                f"{path} was trained with other settings: give another run_dir, or delete it to start anew"
            )
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load(state["average"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step_count = state["epoch"], state["step_count"]
        self.rows, self.seconds, self.lr_factor = state["rows"], state["seconds"], state["lr_factor"]
        self.report(f"{self.task.name}  continued after epoch {self.epoch}")


def _line(val: dict[str, float]) -> str:
    others = "".join(f"  {key} {value:.4f}" for key, value in val.items() if key != "loss")
    return f"validation loss {val['loss']:.4f}{others}"


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
