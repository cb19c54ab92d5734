"""`avdetect tune RECIPE`: search settings of one encoder of a recipe by its validation metric, never by the test.

A search space names settings as on the recipe's command line, and where they may lie:

    train.visual.fit.lr: {log: [1e-5, 1e-2]}       a number, drawn on a logarithmic scale
    train.visual.augment.noise_p: {float: [0, 1]}  a number
    train.visual.crops_per_clip: {int: [1, 8]}     a whole number, both ends included
    train.visual.batch: {choice: [8, 16, 32]}      one of these

It is the recipe's own section `tune`, or a file of configs/tune. Each trial is a run folder beside the study file
that goes through index, prepare and the encoder's stage; its goal is the metric that the stage itself is selected
by (`fit.monitor`). Trials worse than the median of those before are stopped early.
"""

from __future__ import annotations

import gc
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import FileLock, Timeout
from hydra.errors import HydraException
from omegaconf import OmegaConf

from avdetect.errors import ConfigError
from avdetect.recipes import CONFIG_DIR
from avdetect.recipes.configure import compose_recipe
from avdetect.recipes.pipeline import MODALITIES, run_recipe
from avdetect.recipes.run_folder import PLACE_KEYS, RunFolder
from avdetect.training.history import History
from avdetect.training.loop import watching

KINDS = ("log", "float", "int", "choice")
# Trials that run to their end before others are compared with them, and epochs that nothing is judged by: the rate
# still rises in the first ones.
WHOLE_TRIALS, FREE_EPOCHS = 5, 2
Space = dict[str, dict[str, list[Any]]]


def tune_recipe(
    recipe: str, overrides: Sequence[str], trials: int, study: Path | None = None, space: str | None = None
) -> str:
    """Bring the study to `trials` trials, those of earlier calls included; what to print at the end.

    overrides: of all trials; study: sqlite file, made where it is not there; space: a name in configs/tune or a YAML
    file. A call that was killed is continued, the trial that was running from its last epoch, and ends as if it
    had not been. Raises ConfigError where optuna is missing, the space is wrong, the study is another one or in use.
    """
    optuna = _optuna()
    try:
        base = compose_recipe(recipe, overrides)
    except HydraException as error:
        said = str(error).splitlines()[0]
        raise ConfigError(
            f"{recipe} with these settings cannot be composed ({said}): mend its name or them"
        ) from error
    own = base.pop("tune", None)
    wanted = check_space(_read_space(recipe, base, own, space), base)
    file = Path(study) if study else Path(base["runs"]) / f"{recipe}-tune" / "study.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file):
        tuning = _Tuning(optuna, recipe, list(overrides), base, wanted, file)
        tuning.run(trials)
        return tuning.report()


def check_space(space: Space, base: dict[str, Any]) -> Space:
    """The space, checked against the recipe's configuration; raises ConfigError in one sentence."""
    if not isinstance(space, dict) or not space:
        raise ConfigError(
            "the search space names no setting: write lines as train.visual.fit.lr: {log: [1e-5, 1e-2]}"
        )
    for name, entry in space.items():
        kinds = list(entry) if isinstance(entry, dict) else []
        if len(kinds) != 1 or kinds[0] not in KINDS or not isinstance(entry[kinds[0]], list):
            raise ConfigError(
                f"search space of {name}: {entry!r} must be one of {', '.join(KINDS)}, with a list"
            )
        kind, values = kinds[0], entry[kinds[0]]
        if kind == "choice":
            if not values or not all(v is None or isinstance(v, (bool, int, float, str)) for v in values):
                raise ConfigError(
                    f"search space of {name}: choice needs a list of numbers, words, true, false or null"
                )
        elif len(values) != 2 or not all(_number(v) for v in values) or values[0] > values[1]:
            raise ConfigError(f"search space of {name}: {kind} needs the two ends [low, high], not {values}")
        elif kind == "log" and values[0] <= 0:
            raise ConfigError(f"search space of {name}: log needs ends above 0, not {values}")
        elif kind == "int" and not all(isinstance(v, int) for v in values):
            raise ConfigError(f"search space of {name}: int needs whole numbers, not {values}")
        if not isinstance(_select(base, name.rpartition(".")[0]), dict):
            raise ConfigError(
                f"search space: the recipe has no settings {name.rpartition('.')[0]!r} to hold {name}"
            )
    return space


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tuned_encoder(space: Space, base: dict[str, Any]) -> str:
    """Which encoder the space is about; raises ConfigError where it is not one alone, or the recipe hasn't got it."""
    if base.get("members"):
        raise ConfigError(f"{base['name']} trains several encoders side by side: tune a recipe of one")
    parts = [name.split(".") for name in space]
    named = {part[1] for part in parts if part[0] in ("train", "encoder") and part[1] in MODALITIES}
    named = named or set(base["modalities"])
    if len(named) != 1:
        found = ", ".join(sorted(named))
        raise ConfigError(f"one encoder is tuned at a time, but the search space is about {found}: split it")
    (encoder,) = named
    if encoder not in base["modalities"]:
        raise ConfigError(
            f"the search space is about {encoder}, which is none of the modalities of {base['name']}"
        )
    return encoder


def _read_space(recipe: str, base: dict[str, Any], own: Space | None, named: str | None) -> Space:
    folder = Path(CONFIG_DIR) / "tune"
    if named is None and own:
        return own
    alone = base["modalities"][0] if len(base["modalities"]) == 1 else None
    names = [named] if named else [recipe, *([alone] if alone else [])]
    files = [path for name in names for path in (folder / f"{name}.yaml", Path(name)) if path.is_file()]
    if not files:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ConfigError(
            f"there is no search space {names[0]!r}: give --space with one of {known}, or a YAML file"
        )
    try:
        return OmegaConf.to_container(OmegaConf.load(files[0]))
    except yaml.YAMLError as error:
        raise ConfigError(f"{files[0]} is not valid YAML ({error}): mend it") from error


@dataclass
class _Tuning:
    optuna: ModuleType
    recipe: str
    overrides: list[str]
    base: dict[str, Any]
    space: Space
    file: Path

    def __post_init__(self) -> None:
        self.encoder = tuned_encoder(self.space, self.base)
        monitor = self.base["train"][self.encoder]["fit"]["monitor"]
        self.metric = monitor.removeprefix("-")
        self.folder = self.file.with_suffix("")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self.study = self.optuna.create_study(
            study_name=self.recipe,
            storage=f"sqlite:///{self.file.resolve()}",
            direction="minimize" if monitor.startswith("-") else "maximize",
            pruner=self.optuna.pruners.MedianPruner(WHOLE_TRIALS, FREE_EPOCHS + 1),
            load_if_exists=True,
        )
        self._claim()

    def _claim(self) -> None:
        what = {key: value for key, value in self.base.items() if key not in PLACE_KEYS}
        request = json.dumps({"config": what, "space": self.space}, sort_keys=True)
        if self.study.user_attrs.setdefault("request", request) != request:
            raise ConfigError(
                f"{self.file} holds a study of other settings or another search space, whose trials cannot be compared "
                "with these: give another --study"
            )
        self.study.set_user_attr("request", request)

    def run(self, trials: int) -> None:
        if len(self._finished()) >= trials:
            return
        # What does not depend on the trial, first: data that cannot be used is no fault of a trial.
        run_recipe({**self.base, "stages": ["index", "prepare"], "run_dir": str(self.folder / "data")})
        for trial in self.study.get_trials(states=(self.optuna.trial.TrialState.RUNNING,)):
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)  # killed: the same again
            self.study.enqueue_trial(trial.params)
        while (index := len(self._finished())) < trials:
            # A seed for each trial: what is drawn does not depend on how often the study was interrupted.
            self.study.sampler = self.optuna.samplers.TPESampler(seed=self.base["seed"] * 100_003 + index)
            self._trial(index)

    def _finished(self) -> list[Any]:
        states = self.optuna.trial.TrialState
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state in (states.COMPLETE, states.PRUNED) or "failed" in trial.user_attrs
        ]

    def _trial(self, index: int) -> None:
        trial, states = self.study.ask(), self.optuna.trial.TrialState
        values = {name: suggest(trial, name, entry) for name, entry in self.space.items()}
        folder = self.folder / f"trial-{index:04d}"
        trial.set_user_attr("folder", str(folder))
        print(f"trial {index}  {' '.join(self._as_overrides(values))}", file=sys.stderr)
        config = compose_recipe(self.recipe, [*self.overrides, *self._as_overrides(values)])
        config.pop("tune", None)
        config |= {"stages": ["index", "prepare", self.encoder], "run_dir": str(folder), "fresh": False}
        try:
            with watching(lambda rows: self._tell(trial, rows, may_stop=True)):
                run_recipe(config)
        except self.optuna.TrialPruned:
            print(f"trial {index}  stopped: worse than the median of those before", file=sys.stderr)
            self.study.tell(trial, state=states.PRUNED)
        except (
            SystemExit,
            torch.OutOfMemoryError,
        ) as error:  # run_recipe has said what a SystemExit is about
            why = "the recipe ended with an error" if isinstance(error, SystemExit) else "out of memory"
            print(f"trial {index}  failed: {why}", file=sys.stderr)
            trial.set_user_attr("failed", why)
            self.study.tell(trial, state=states.FAIL)
        else:
            rows = History(folder / "history.jsonl").rows()
            self._tell(trial, rows, may_stop=False)  # all of them, where the stage was done before a kill
            self.study.tell(trial, RunFolder(folder).result(self.encoder)["validation"][self.metric])
            return
        gc.collect()  # the network of a trial that did not end by itself, before the next one is made
        torch.cuda.empty_cache()

    def _tell(self, trial: Any, rows: list[dict[str, Any]], may_stop: bool) -> None:
        """Report the epochs that optuna does not know of this trial, among them those before a kill."""
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for row in rows:
            if row["stage"] == self.encoder and row["epoch"] not in known:
                trial.report(row[f"val/{self.metric}"], row["epoch"])
                if may_stop and trial.should_prune():
                    raise self.optuna.TrialPruned

    def _as_overrides(self, values: dict[str, Any]) -> list[str]:
        """With a plus sign where the recipe's configuration has no such setting yet, as Hydra wants it."""
        return [
            f"{'' if last in _select(self.base, parent) else '+'}{parent}.{last}={_text(value)}"
            for (parent, _, last), value in ((name.rpartition("."), value) for name, value in values.items())
        ]

    def report(self) -> str:
        """Write trials.csv and the best settings as YAML; the text that says so."""
        rows = [
            {"trial": index, "state": trial.state.name.lower(), self.metric: trial.value}
            | {"epochs": len(trial.intermediate_values)}
            | trial.params
            for index, trial in enumerate(self._finished())
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(rows)
        table.to_csv(self.folder / "trials.csv", index=False)
        if not any(row["state"] == "complete" for row in rows):
            raise ConfigError(f"no trial of {self.file} came to its end: see what each has said above")
        best = self.study.best_trial
        file = self.folder / "best.yaml"
        said = f"# Best of {len(rows)} trials on validation: {self.metric} {best.value:.4f}"
        header = f"# @package _global_\n{said}\ndefaults:\n  - recipe/{self.recipe}\n  - _self_\n\n"
        file.write_text(header + yaml.safe_dump(_nested(best.params), sort_keys=False))
        place = shlex.quote(str(self.folder.resolve()))
        command = [
            "python -m",
            f"avdetect.recipes.{self.recipe}",
            "--config-dir",
            place,
            "--config-name best",
        ]
        command += map(shlex.quote, self.overrides)
        return "\n".join([
            table.to_string(index=False, na_rep="-"),
            f"\nbest on validation: {self.metric} {best.value:.4f}  ({Path(best.user_attrs['folder']).name})",
            *(f"  {override}" for override in self._as_overrides(best.params)),
            f"saved in {file}; run the whole recipe with it:",
            "  " + " ".join(command),
        ])  # fmt: skip


def suggest(trial: Any, name: str, entry: dict[str, list[Any]]) -> Any:
    """A value from an entry of a search space (`check_space`)."""
    ((kind, values),) = entry.items()
    if kind == "choice":
        return trial.suggest_categorical(name, values)
    if kind == "int":
        return trial.suggest_int(name, *values)
    return trial.suggest_float(name, *values, log=kind == "log")


def _text(value: Any) -> str:
    """As Hydra's command line reads it."""
    return json.dumps(value, ensure_ascii=False)


def _select(config: dict[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split(".") if name else []:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return result


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time: a trial that seems to run may then be taken for killed."""
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"another process works on the study {file}: wait, or give another --study"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _optuna() -> ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            "tuning needs optuna, which is not installed: pip install 'avdetect[tune]'"
        ) from error
    return optuna
