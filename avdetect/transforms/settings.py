"""Settings as configurations and files state them: checked by name and type, and written as plain dictionaries."""

import collections.abc
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from avdetect.errors import ConfigError

WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}
MAPPINGS = (dict, collections.abc.Mapping)


def check_settings(name: str, settings: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a setting of `name` that is not among `kinds`, or not of its type there.

    kinds: types by name, of numbers, texts, truth values, lists and mappings of them. Lists stand for tuples, as
    JSON has no others; NaN and infinity are no numbers.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"The settings of {name} are {settings!r}: they must be values by name.")
    if unknown := sorted(set(settings) - set(kinds)):
        raise ConfigError(f"{name} has no setting {', '.join(unknown)}; it knows {', '.join(kinds)}.")
    for key, value in settings.items():
        if not _fits(value, kinds[key]):
            raise ConfigError(f"{name} has the setting {key} {value!r}: it must be {_wanted(kinds[key])}.")


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, member) for member in inner)
    if origin in MAPPINGS:
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if origin is not None:  # tuple[int, int], tuple[int, ...] or Sequence[int]
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(_fits, value, inner))
        return all(_fits(item, inner[0]) for item in value)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return kind is Any or isinstance(value, kind)


def _wanted(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(map(_wanted, inner))
    if origin in MAPPINGS:
        return "values by name"
    if origin is not None:
        count = f"{len(inner)} " if origin is tuple and inner[-1] is not Ellipsis else ""
        return f"a list of {count}{ {int: 'whole numbers', float: 'numbers', str: 'texts'}.get(inner[0], 'values') }"
    return WANTED[kind]


@dataclass(frozen=True)
class Settings:
    """Base of the preprocessing and augmentation dataclasses: JSON-ready `to_dict`, strict `from_dict`."""

    def to_dict(self) -> dict[str, Any]:
        """Field values by name; tuples become lists, as JSON would make them."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The object that `to_dict` described; raises `ConfigError` for a name or a type it does not know."""
        hints = get_type_hints(cls)
        check_settings(
            cls.__name__, values, {f.name: hints[f.name] for f in sorted(fields(cls), key=lambda f: f.name)}
        )
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
