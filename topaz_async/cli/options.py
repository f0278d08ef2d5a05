"""Options that several commands share, and what their values may be."""

from __future__ import annotations

import math

from cyclopts import Group

__all__ = ["ADVANCED", "amount", "port"]

#: Options that most people never need.
ADVANCED = Group("Advanced", sort_key=2)


def amount(kind: object, value: float | None) -> None:
    """Refuse what is no number from 0 on."""
    if value is not None and not 0 <= value < math.inf:
        raise ValueError("It must be a number from 0 on.")


def port(kind: object, value: int) -> None:
    """Refuse what is no port."""
    if not 0 <= value <= 65535:
        raise ValueError("A port is a number from 0 to 65535.")
