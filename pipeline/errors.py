"""The errors that are a whole run's: a setting, method, model or output that cannot be used. Light to import."""

from __future__ import annotations

from ..models.families import UnknownModelError
from ..models.jsonfile import CheckpointError
from ..stages.listing import UnknownMethodError
from ..stages.safefile import OutputError


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line: what, why, what to do."""


CONFIG_ERRORS = (ConfigError, UnknownMethodError, UnknownModelError, CheckpointError)
RUN_ERRORS = (*CONFIG_ERRORS, OutputError)  # what ends a run: the next input would meet the same
