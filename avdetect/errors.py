"""Errors that a user can act on: what was found, where, and what to do.

Anything else that escapes from the package is a defect of the package.
"""


class AvdetectError(Exception):
    """Base of all errors that carry one clear sentence for the user."""


class MediaError(AvdetectError):
    """A file could not be read as video, image or audio."""


class DataError(AvdetectError):
    """A dataset, a manifest or a prepared set is not what it should be."""


class WeightsError(AvdetectError):
    """Weights are missing, damaged, or do not fit the network."""


class ConfigError(AvdetectError):
    """A setting is unknown or contradicts another."""
