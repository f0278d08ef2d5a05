"""What a timeout may be, and the moment at which one is over."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from .errors import ConfigurationError
from .texts import quoted

__all__ = ["check_pause", "check_timeout", "moment_after"]


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


def check_pause(value: object, what: str) -> float:
    """Return a duration in seconds that may be 0; anything else raises as `check_timeout` does."""
    if not isinstance(value, bool) and value == 0:
        return 0.0
    seconds = check_timeout(value, what)
    if seconds is None:
        raise ConfigurationError(f"{what} must be a number of seconds, not {quoted(value)}.")
    return seconds


def moment_after(moment: datetime | None, seconds: float | None) -> datetime | None:
    """Return the moment so many seconds later; None when either is unknown or it is beyond all."""
    if moment is None or seconds is None:
        return None
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return None
