"""What is left when the clips of a command have ended: errors, tasks that go on, the exit code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..errors import (
    ClientClosedError,
    DownloadError,
    JournalError,
    LinkExpiredError,
    SubmitUnknownError,
    TaskFailedError,
    TaskNotFoundError,
)
from ..ports import Entry, Journal
from .exits import complain, exit_code, joint_code, words
from .options import Where
from .service import Service
from .ways import DOOM, Way

__all__ = ["Aftermath", "learn"]

_log = logging.getLogger("topaz_async")

#: After these a task that is paid for has no result any more.
_GONE = (LinkExpiredError, TaskNotFoundError)

#: After these there is nothing left to wait for.
_ENDED = (TaskFailedError, TaskNotFoundError, LinkExpiredError)

#: How many clips are named one by one.
_NAMED = 20


async def learn(way: Way, journal: Journal) -> None:
    """Learn from the journal what became of a clip that did not end well.

    Whether one that was cut short has a task, and whether `resume` brings it to where it belongs.
    """
    reference = way.planned.wish.reference
    if way.status in ("ok", "refused", "not submitted") or reference is None:
        return
    with contextlib.suppress(JournalError):
        entry = await journal.find(reference)
        way.is_resumable = entry is not None and _is_brought_by_resume(entry, way)
        if way.status != "unknown":
            return
        if entry is not None and entry.submit == "made":
            way.task_id, way.status = entry.task_id, "pending"
            way.is_resumable = _is_brought_by_resume(entry, way)
        elif entry is None or entry.submit == "refused":
            way.status = "not submitted"


def _is_brought_by_resume(entry: Entry, way: Way) -> bool:
    output = entry.intent.output
    return (
        entry.submit == "made"
        and entry.task_id == way.task_id
        and entry.path is None
        and output is not None
        and Path(output) == way.planned.wish.output.absolute()
    )


class Aftermath:
    """What the clips of one command left behind.

    Args:
        ways: How each clip ended.
        where: What was typed about the place.
        service: Where the clips were sent.
        is_kept: Whether the journal outlives the command.
    """

    def __init__(
        self, ways: Sequence[Way], where: Where, service: Service, *, is_kept: bool
    ) -> None:
        self._ways = ways
        self._where = where
        self._service = service
        self._is_kept = is_kept

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that could be sent later."""
        return not any(
            way.status == "not submitted"
            or (way.status == "refused" and (isinstance(way.error, DOOM) or _may_pass(way)))
            for way in self._ways
        )

    def tell(self, console: Console, *, stopped: bool) -> int:
        """Print what a person has to know, and return the exit code."""
        groups: dict[str, list[Way]] = {}
        for way in self._ways:
            if way.error is not None and not isinstance(way.error, ClientClosedError):
                error = way.error
                if self._service.is_embedded:
                    error = error.about(billed="no")
                groups.setdefault(words(error), []).append(way)
        for text, ways in groups.items():
            names = _names(ways)
            _log.debug("This ended the way of %s.", names, exc_info=ways[0].error)
            is_clear = len(self._ways) == 1 or names in text
            complain(console, text if is_clear else f"{names}: {text}")
        gone = [way for way in self._ways if isinstance(way.error, _GONE) and way.task_id]
        if gone and self._is_kept:
            command = self._where.command("forget", *[way.task_id or "" for way in gone], "--yes")
            complain(console, f"To buy it anew, first: {command}", label="")
        for command in self._bindings():
            complain(console, f"Once its task is found: {command}", label="")
        rest = self._rest(stopped=stopped)
        if rest:
            complain(console, "\n".join(rest), label="")
        if stopped and not self._unknown():  # which needs a person, interrupted or not
            return 130
        if stopped:
            return exit_code(SubmitUnknownError(""))
        return joint_code(
            None if way.error is None else exit_code(way.error)
            for way in self._ways
            if way.error is not None or way.status == "ok"
        )

    def _unknown(self) -> list[Way]:
        """Return the clips of which nobody knows whether they were bought."""
        if self._service.is_embedded:
            return []
        return [
            way
            for way in self._ways
            if way.status == "unknown" or isinstance(way.error, SubmitUnknownError)
        ]

    def _bindings(self) -> list[str]:
        if not self._is_kept:
            return []
        return [
            self._where.command(
                "bind",
                way.planned.wish.reference,
                (None if way.error is None else way.error.task_id) or "TASK",
            )
            for way in self._unknown()
            if way.planned.wish.reference is not None
        ][:_NAMED]

    def _rest(self, *, stopped: bool) -> list[str]:
        going_on = [
            way
            for way in self._ways
            if way.task_id and way.status != "ok" and not isinstance(way.error, _ENDED)
        ]
        unknown = [
            way
            for way in self._ways
            if way.status == "unknown" and isinstance(way.error, ClientClosedError)
        ]
        unsent = [way for way in self._ways if way.status == "not submitted"]
        begin = "Interrupted. " if stopped else ""
        if self._service.is_embedded:
            gone = f"{begin}The sandbox has ended, and its tasks with it. Nothing was billed."
            return [gone] if stopped or going_on else []
        if stopped and not (going_on or unknown or len(unsent) < len(self._ways)):
            begin, lines = "", ["Interrupted before anything was submitted. Nothing was billed."]
        elif not going_on and not unknown and not unsent:
            return ["Interrupted, when all was done."] if stopped else []
        else:
            lines = [begin + _counted(going_on, unknown, unsent)]
        lines += [f"  {way.name}  task {way.task_id}" for way in going_on[:_NAMED]]
        if len(going_on) > _NAMED:
            lines.append(f"  and {len(going_on) - _NAMED} more")
        lines += [f"  {way.name}  may be billed" for way in unknown[:_NAMED]]
        if unknown:
            lines.append("Look for it in the account's task log before you send it again.")
        return [*lines, *self._advice(going_on, unsent)]

    def _advice(self, going_on: Sequence[Way], unsent: Sequence[Way]) -> list[str]:
        by_hand = [way for way in going_on if not (self._is_kept and way.is_resumable)]
        commands = [self._download(way, way.planned.wish.output) for way in by_hand]
        commands += [
            f"To another place: {self._download(way, _other_place(way))}"
            for way in going_on[:_NAMED]
            if isinstance(way.error, DownloadError) and not way.error.retryable
        ]
        going_on = [way for way in going_on if way not in by_hand]
        secret = [way for way in unsent if way.planned.wish.has_secrets]
        if secret and self._is_kept:
            commands.append(
                f"Not written down, for the address may hold a secret: {_names(secret)}. "
                "Name it again to send it."
            )
            unsent = [way for way in unsent if way not in secret]
        if not self._is_kept or not (going_on or unsent):
            return commands
        what = "Bring the result" if len(going_on) == 1 else "Bring the results"
        if not going_on:
            what = "Send it" if len(unsent) == 1 else "Send them"
        elif unsent:
            what += " and send the rest"
        return [f"{what} with: {self._where.command('resume')}", *commands]

    def _download(self, way: Way, place: Path) -> str:
        return self._where.command("download", way.task_id or "", "-o", str(place))


def _other_place(way: Way) -> Path:
    here = Path()
    return Path.home() if way.planned.wish.output.absolute().parent == here.absolute() else here


def _counted(going_on: Sequence[Way], unknown: Sequence[Way], unsent: Sequence[Way]) -> str:
    parts = []
    paid = sum(way.is_paid for way in going_on)
    running = len(going_on) - paid
    if running:
        goes = "task goes" if running == 1 else "tasks go"
        parts.append(f"{running} {goes} on at the service and may be billed")
    if paid:
        are, them = ("result is", "it") if paid == 1 else ("results are", "them")
        parts.append(f"{paid} {are} paid for, and downloading {them} again is free")
    if unknown:
        were = "clip was" if len(unknown) == 1 else "clips were"
        parts.append(f"{len(unknown)} {were} being submitted, and nobody knows the answer")
    if unsent:
        parts.append(f"{len(unsent)} {'clip was' if len(unsent) == 1 else 'clips were'} not sent")
    return "; ".join(parts) + "."


def _may_pass(way: Way) -> bool:
    return way.error is not None and way.error.retryable


def _names(ways: Sequence[Way]) -> str:
    names = ", ".join(way.name for way in ways[:3])
    return names if len(ways) <= 3 else f"{names} and {len(ways) - 3} more"
