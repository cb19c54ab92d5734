"""From a recipe's name and overrides to one plain configuration, and the entry point that every recipe shares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from avdetect.errors import AvdetectError, ConfigError
from avdetect.recipes import CONFIG_DIR

MEMBER_PARTS = ("encoder", "train")  # what a member of a zoo may have of its own


def recipe(name: str) -> Callable[[], None]:
    """The `main` of a recipe: reads the command line, composes `configs/recipe/NAME.yaml` and runs it."""

    def task(config: DictConfig) -> None:
        from avdetect.recipes.pipeline import run_recipe

        try:
            plain = _plain(config, name, HydraConfig.get().overrides.task)
        except AvdetectError as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(1)
        run_recipe(plain)

    return hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name=f"recipe/{name}")(task)


def compose_recipe(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration that the command line with these overrides gives, ready for `run_recipe`.

    Raises ConfigError where data.root or a member of a zoo is missing or wrong; Hydra's own errors stay.
    """
    if GlobalHydra.instance().is_initialized():
        return _plain(hydra.compose(f"recipe/{name}", list(overrides)), name, overrides)
    with hydra.initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return _plain(hydra.compose(f"recipe/{name}", list(overrides)), name, overrides)


def _plain(config: DictConfig, name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Resolved, with the members of a zoo worked out from their own overrides."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        wanted = OmegaConf.select(config, "data.layout")
        raise ConfigError(
            f"a setting has no value ({str(error).splitlines()[0]}): give data.root=FOLDER of the dataset"
            + (f", or data.root=demo:{wanted} to try the recipe on a miniature" if wanted else "")
        ) from error
    if plain.get("members"):
        plain["members"] = _members(plain, name, overrides)
    return plain


def _members(plain: dict[str, Any], name: str, overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Per member of the zoo its `encoder` and `train`, of the modalities that are used.

    Its own overrides come first, those of the command line, which hold for all, after them.
    """
    unknown = [member for member in plain.get("only") or [] if member not in plain["members"]]
    if unknown:
        raise ConfigError(f"only names {unknown[0]}, which is none of {', '.join(plain['members'])}")
    chosen = plain.get("only") or [member for member, own in plain["members"].items() if own is not None]
    given = {_key(override) for override in overrides}
    result = {}
    for member in chosen:
        own = [override for override in plain["members"][member] if _key(override) not in given]
        try:
            composed = hydra.compose(f"recipe/{name}", [*own, *overrides])
        except HydraException as error:
            raise ConfigError(f"members.{member} of {name} cannot be composed: {error}") from error
        whole = OmegaConf.to_container(composed, resolve=True)
        differing = [part for part in plain if part not in MEMBER_PARTS and whole[part] != plain[part]]
        if differing:
            raise ConfigError(
                f"members.{member} of {name} changes {differing[0]}: all members share the prepared data, so they "
                f"may differ in {' and '.join(MEMBER_PARTS)} alone"
            )
        result[member] = {
            part: {key: value for key, value in whole[part].items() if key in plain["modalities"]}
            for part in MEMBER_PARTS
        }
    return result


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
