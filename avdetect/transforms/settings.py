"""Frozen settings that travel with weights as plain dictionaries."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from avdetect.errors import ConfigError


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
        """The object that `to_dict` described; raises `ConfigError` for a name it does not know."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(unknown)}; it knows {', '.join(sorted(known))}."
            )
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
