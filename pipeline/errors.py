"""The errors that are a whole run's: a setting, method or model that cannot be used. Light to import."""

from __future__ import annotations

from ..models.families import UnknownModelError
from ..models.jsonfile import CheckpointError
from ..stages.listing import UnknownMethodError


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line: what, why, what to do."""


CONFIG_ERRORS = (ConfigError, UnknownMethodError, UnknownModelError, CheckpointError)
