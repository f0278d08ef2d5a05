"""An error to what the terminal says about it, and to the exit code."""

from __future__ import annotations

import traceback
from typing import Final

from rich.console import Console
from rich.text import Text

from ..errors import (
    AuthenticationError,
    BudgetError,
    ConfigurationError,
    InsufficientCreditsError,
    InvalidInputError,
    KeyQuotaError,
    SubmitUnknownError,
    TopazError,
    WaitTimeoutError,
)
from ..texts import clean

__all__ = ["EXIT_CODES", "StoppedError", "UsageError", "complain", "exit_code", "report", "words"]

#: What each exit code of the program means.
EXIT_CODES: Final = {
    0: "done",
    1: "failed",
    2: "wrong usage, input or configuration; nothing was billed",
    3: "unknown outcome: a task may exist and be billed",
    4: "the service refused the key",
    5: "not enough credits",
    6: "the time was over; the task goes on at the service",
    130: "interrupted (Ctrl-C); a task that was submitted goes on",
}

#: The first class that fits decides; everything else is 1.
_BY_CLASS: Final[tuple[tuple[type[TopazError], int], ...]] = (
    (ConfigurationError, 2),
    (InvalidInputError, 2),
    (SubmitUnknownError, 3),
    (AuthenticationError, 4),
    (InsufficientCreditsError, 5),
    (KeyQuotaError, 5),
    (BudgetError, 5),
    (WaitTimeoutError, 6),
)

#: The library's advice is for programs; at a terminal the same thing has another name.
_IN_TERMINAL_WORDS: Final = {
    "Quotas.max_upload_bytes is": "--max-mb in bytes is",
    "pass overwrite=True": "add --overwrite",
    "The limit is Quotas(max_upload_bytes=...)": "Raise the limit with --max-mb",
    "base_url was set and upload_url was not": "--base-url was given and --upload-url was not",
    "base_url": "--base-url",
    "upload_url": "--upload-url",
    "resubmit_unknown=True is your consent to pay twice if it exists.": (
        "running the command again pays twice if it exists."
    ),
}


class UsageError(Exception):
    """The command cannot be run as it was given; nothing was sent."""


class StoppedError(Exception):
    """Ctrl-C or SIGTERM ended the command; the text says what goes on."""


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, (StoppedError, KeyboardInterrupt)):
        return 130
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), 1)


def words(error: BaseException) -> str:
    """Return what happened, what it cost and what to do next, as one short block."""
    if isinstance(error, TopazError):
        text = str(error)
        for ours, theirs in _IN_TERMINAL_WORDS.items():
            text = text.replace(ours, theirs)
    elif isinstance(error, (UsageError, StoppedError)):
        text = str(error)
    elif isinstance(error, OSError):
        place = f"{clean(error.filename, 300)}: " if error.filename else ""
        text = f"{place}{error.strerror or type(error).__name__}."
    elif isinstance(error, KeyboardInterrupt):
        text = "Interrupted."
    else:
        text = (
            f"Unforeseen {type(error).__name__}: {clean(error) or 'no reason given'}. "
            "This is a bug; --debug shows where it happened."
        )
    return "\n".join([text, *getattr(error, "__notes__", ())])


def report(error: BaseException, console: Console, *, debug: bool) -> int:
    """Tell the terminal about an error and return the exit code.

    Args:
        error: What ended the command.
        console: The console of standard error.
        debug: Show the stack trace as well.
    """
    if debug:
        console.print(Text("".join(traceback.format_exception(error))), soft_wrap=True)
    wanted = isinstance(error, (StoppedError, KeyboardInterrupt))
    complain(console, words(error), label="" if wanted else "Error: ")
    return exit_code(error)


def complain(console: Console, text: str, *, label: str = "Error: ") -> None:
    """Print one block, whose label stands out where there are colours."""
    # On a terminal words are kept whole; in a file every message stays on its own line.
    block = Text.assemble((label, "bold red"), text)
    console.print(block, soft_wrap=not console.is_terminal)
