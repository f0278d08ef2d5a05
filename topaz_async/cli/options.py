"""Options that several commands share, and what their values may be."""

from __future__ import annotations

import math
import shlex
from typing import Annotated

import attrs
from cyclopts import Group, Parameter

__all__ = [
    "ADVANCED",
    "HERE",
    "PLAINLY",
    "STANDARD_INPUT",
    "Telling",
    "Where",
    "amount",
    "port",
    "whole",
]

#: Stands for `-` among the arguments, which the parser takes for an option.
STANDARD_INPUT = "\0standard input"

#: Options that most people never need.
ADVANCED = Group("Advanced", sort_key=2)


def amount(kind: object, value: float | None) -> None:
    """Refuse what is no number from 0 on."""
    if value is not None and not 0 <= value < math.inf:
        raise ValueError("It must be a number from 0 on.")


def whole(kind: object, value: int) -> None:
    """Refuse what is below 1."""
    if value < 1:
        raise ValueError("It must be a whole number from 1 on.")


def port(kind: object, value: int) -> None:
    """Refuse what is no port."""
    if not 0 <= value <= 65535:
        raise ValueError("A port is a number from 0 to 65535.")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Telling:
    """How a command tells what it has to say."""

    json: bool = False
    """One JSON object a line on standard output, all else on standard error."""
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
    """Say nothing but errors."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Where:
    """Which service is spoken to, and where what was bought is written down."""

    journal: Annotated[str | None, Parameter(group=ADVANCED, metavar="FILE")] = None
    """Where tasks are written down; by default in your data folder (TOPAZ_ASYNC_JOURNAL)."""
    no_journal: Annotated[bool, Parameter(group=ADVANCED)] = False
    """Write nothing down: nothing can be resumed."""
    base_url: Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")] = None
    """Another service than kie.ai, or a sandbox that runs (TOPAZ_ASYNC_BASE_URL)."""
    upload_url: Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")] = None
    """Where its uploads go (TOPAZ_ASYNC_UPLOAD_URL)."""

    def command(self, *words: str) -> str:
        """Return the command line that does something at the same place."""
        typed = [
            word
            for name, value in (
                ("--journal", self.journal),
                ("--base-url", self.base_url),
                ("--upload-url", self.upload_url),
            )
            if value is not None
            for word in (name, value)
        ]
        return shlex.join(["topaz-async", *words, *typed])


#: What is meant where none of these options is typed.
PLAINLY, HERE = Telling(), Where()
