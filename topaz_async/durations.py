"""What a timeout may be."""

from __future__ import annotations

import sys

from .errors import ConfigurationError
from .texts import quoted

__all__ = ["check_timeout"]


def check_timeout(value: object, what: str = "timeout") -> float | None:
    """Return a duration in seconds, above 0, or None for none.

    Raises:
        ConfigurationError: Anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{what} must be a number of seconds or None, not {quoted(value)}."
        )
    if not value > 0:
        raise ConfigurationError(f"{what} is {quoted(value)}; it must be above 0 seconds.")
    return float(value) if value <= sys.float_info.max else None
