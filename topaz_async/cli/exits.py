"""An error to what the terminal says about it, and to the exit code."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ..errors import (
    AuthenticationError,
    BudgetError,
    ClientClosedError,
    ConfigurationError,
    InsufficientCreditsError,
    InvalidInputError,
    KeyQuotaError,
    ReferenceConflictError,
    SubmitUnknownError,
    TopazError,
    WaitTimeoutError,
)
from ..texts import clean

__all__ = [
    "EXIT_CODES",
    "StoppedError",
    "UsageError",
    "complain",
    "error_as_json",
    "exit_code",
    "joint_code",
    "report",
    "words",
]

#: What each exit code of the program means.
EXIT_CODES: Final = {
    0: "all done",
    1: "some or all failed",
    2: "wrong usage, input or configuration; nothing was billed",
    3: "unknown outcome: a task may exist and be billed",
    4: "the service refused the key",
    5: "not enough credits, or more than --max-credits",
    6: "the time was over; tasks go on at the service",
    130: "interrupted (Ctrl-C), or declined; tasks that were submitted go on",
}

#: The first class that fits decides; everything else is 1.
_BY_CLASS: Final[tuple[tuple[type[TopazError], int], ...]] = (
    (ConfigurationError, 2),
    (InvalidInputError, 2),
    (ReferenceConflictError, 2),
    (SubmitUnknownError, 3),
    (AuthenticationError, 4),
    (InsufficientCreditsError, 5),
    (KeyQuotaError, 5),
    (BudgetError, 5),
    (WaitTimeoutError, 6),
    (ClientClosedError, 130),  # only Ctrl-C and SIGTERM close a client before its time
)

#: The library's advice is for programs; at a terminal the same thing has another name.
_IN_TERMINAL_WORDS: Final = tuple(
    (re.compile(ours), theirs)
    for ours, theirs in (
        (r"Quotas\.max_upload_bytes is", "--max-mb in bytes is"),
        (r"pass overwrite=True", "add --overwrite"),
        (r"The limit is Quotas\(max_upload_bytes=\.\.\.\)", "Raise the limit with --max-mb"),
        (
            r"base_url was set and upload_url was not",
            "--base-url was given and --upload-url was not",
        ),
        (r"base_url", "--base-url"),
        (r"upload_url", "--upload-url"),
        (
            r"with a journal, client\.bind\(.*?\) binds what you find; "
            r"resubmit_unknown=True is your consent to pay twice if it exists\.",
            "`topaz-async bind REFERENCE TASK` binds what you find there, "
            "`topaz-async forget REFERENCE --yes` clears it if there is none; upscale with "
            "--resubmit-unknown pays twice if it exists.",
        ),
        (
            r"fetch_task\('(.*?)'\) tells whether it is yours, and bind\((.*), '.*?'\) binds it "
            r"to its reference\.",
            r"`topaz-async status \1` tells whether it is yours, and `topaz-async bind \2 \1` "
            "binds it to its reference.",
        ),
        (
            r"fetch_task\('(.*?)'\) tells whether it is yours, and wait_for_result waits for it",
            r"`topaz-async status \1` tells whether it is yours",
        ),
        (
            r"wait_for_result\(task_id\) waits for what you find\.",
            "`topaz-async download TASK` brings what you find there.",
        ),
        (
            r"ask again with wait_for_result\(.*?\), and do not submit again",
            "ask again, and do not upscale it again",
        ),
        (r"[^.]*wait_for_result\([^)]*\)[^.]*\.", " It goes on at the service."),
        (r" Its reference needs resubmit_failed=True for that\.", ""),
        (r", or pass the fingerprint= that tells it from other work", ""),
        (
            r"client\.journal\.forget\(reference\) frees it",
            "`topaz-async forget REFERENCE` frees it",
        ),
        (r"fetch_task may give a fresh link", "`topaz-async download TASK` may find a fresh one"),
        (r"; fetch_task may give more later", ""),
        (r"Raise the Budget, or wait until it is wanted", "Raise --max-credits"),
        (r"max_credits", "--max-credits"),
    )
)


class UsageError(Exception):
    """The command cannot be run as it was given; nothing was sent."""


class StoppedError(Exception):
    """Ctrl-C, SIGTERM or a no ended the command before anything was sent."""


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, (StoppedError, KeyboardInterrupt)):
        return 130
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), 1)


def joint_code(codes: Iterable[int | None]) -> int:
    """Return the exit code of a command from those of its clips; None is a clip that is done.

    What may have been paid unknown to anybody comes first; a code that only some share counts
    as long as no clip has another, but for 2, which promises that nothing at all was billed.
    """
    found = list(codes)
    bad = {code for code in found if code is not None}
    if not bad:
        return 0
    if 3 in bad:
        return 3
    if len(bad) > 1 or (bad == {2} and None in found):
        return 1
    return bad.pop()


def words(error: BaseException) -> str:
    """Return what happened, what it cost and what to do next, as one short block."""
    if isinstance(error, (ClientClosedError, KeyboardInterrupt)):
        text = "Interrupted. What was submitted goes on; `topaz-async jobs` lists it."
    elif isinstance(error, TopazError):
        text = _in_terminal_words(str(error))
    elif isinstance(error, (UsageError, StoppedError)):
        text = str(error)
    elif isinstance(error, OSError):
        place = f"{clean(error.filename, 300)}: " if error.filename else ""
        text = f"{place}{error.strerror or type(error).__name__}."
    else:
        text = (
            f"Unforeseen {type(error).__name__}: {clean(error) or 'no reason given'}. "
            "This is a bug; --debug shows where it happened."
        )
    return "\n".join([text, *getattr(error, "__notes__", ())])


def _in_terminal_words(text: str) -> str:
    for ours, theirs in _IN_TERMINAL_WORDS:
        text = ours.sub(theirs, text)
    return text.strip()


def error_as_json(error: BaseException) -> dict[str, Any]:
    """Return an error as `--json` tells it."""
    told: dict[str, Any] = {
        "type": type(error).__name__,
        "message": words(error),
        "code": None,
        "task_id": None,
        # Only these end a command of which nothing can have been sent.
        "billed": "no" if isinstance(error, (UsageError, StoppedError)) else "unknown",
        "retryable": False,
        "hint": None,
    }
    if isinstance(error, TopazError):
        told |= {
            "message": _in_terminal_words(error.message),
            "code": error.code,
            "task_id": error.task_id,
            "billed": error.billed,
            "retryable": error.retryable,
            "hint": _in_terminal_words(error.hint or "") or None,
        }
    return told


def report(error: BaseException, console: Console, *, debug: bool) -> int:
    """Tell the terminal about an error and return the exit code.

    Args:
        error: What ended the command.
        console: The console of standard error.
        debug: Show the stack trace as well.
    """
    if debug:
        console.print(Text("".join(traceback.format_exception(error))), soft_wrap=True)
    code = exit_code(error)
    complain(console, words(error), label="" if code == 130 else "Error: ")
    return code


def complain(console: Console, text: str, *, label: str = "Error: ") -> None:
    """Print one block, whose label stands out where there are colours."""
    # On a terminal words are kept whole; in a file every message stays on its own line.
    block = Text.assemble((label, "bold red"), text)
    console.print(block, soft_wrap=not console.is_terminal)
