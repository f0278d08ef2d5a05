"""What a timeout may be."""

from __future__ import annotations

import math

from .errors import ConfigurationError

__all__ = ["check_timeout"]


def check_timeout(value: object, what: str = "timeout") -> float | None:
    """Return a duration in seconds, above 0, or None for none.

    Raises:
        ConfigurationError: Anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{what} must be a number of seconds or None, not {value!r:.40}.")
    seconds = float(value)
    if math.isnan(seconds) or seconds <= 0:
        raise ConfigurationError(f"{what} is {value!r:.40}; it must be above 0 seconds.")
    return None if math.isinf(seconds) else seconds
