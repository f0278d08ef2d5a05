"""Before anything is bought: show the plan, keep to the bound, ask whoever sits at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import BudgetError
from ..settings import CREDIT_DOLLARS
from ..texts import clean
from .display import is_live, make_console, say, say_json, show, size
from .exits import StoppedError, complain, error_as_json, exit_code, joint_code, words
from .planning import Planned, Totals
from .running import sigterm_as_ctrl_c

__all__ = ["agree", "rehearse"]

_UNSENT = "Nothing was sent. Nothing was billed."


def keep_bound(totals: Totals, max_credits: float | None) -> None:
    """Refuse a plan that may cost more than the person allows, before the first clip is sent.

    Raises:
        BudgetError: It may.
    """
    if max_credits is None:
        return
    if totals.unpriced:
        raise BudgetError(
            f"--max-credits is set, and the cost of {_clips(totals.unpriced)} cannot be estimated "
            "without their length.",
            hint="Leave out web addresses, or --max-credits.",
        )
    if totals.credits > max_credits:
        raise BudgetError(
            f"It may cost {totals.credits:g} credits, and --max-credits is {max_credits:g}.",
            hint="Raise --max-credits, or send less.",
        )


def agree(plan: Sequence[Planned], place: str, *, max_credits: float | None, yes: bool) -> None:
    """Return when the plan may be carried out.

    Asked is only who sits at a terminal, and only if something is to be bought; a program is
    never kept waiting.

    Args:
        plan: What is to be done.
        place: The service, as it is called.
        max_credits: The bound, in credits; None for none.
        yes: Do not ask.

    Raises:
        BudgetError: It may cost more than `max_credits`.
        StoppedError: The answer was no.
    """
    totals = Totals.of(plan)
    keep_bound(totals, max_credits)
    if yes or not totals.send or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return
    console = make_console(stderr=True)
    for planned in plan:
        if planned.error is not None:
            complain(console, _why_not(planned), label="Note: ")
    first = next(planned for planned in plan if planned.action == "send")
    what = first.wish.name if totals.send == 1 else _clips(totals.send)
    question = f"Upscale {what} at {place}, for {_cost(totals)}? [y/N] "
    try:
        with sigterm_as_ctrl_c():
            console.print(Text(question), end="")
            answer = sys.stdin.readline()
    except KeyboardInterrupt:
        say(console)
        raise StoppedError(f"Interrupted. {_UNSENT}") from None
    if not answer:  # Ctrl-D
        say(console)
    if answer.strip().lower() not in ("y", "yes"):
        paid = (
            ""
            if not totals.fetch
            else (
                f" {totals.fetch} of the clips {'is' if totals.fetch == 1 else 'are'} paid for: "
                "`topaz-async resume --paid-only` brings what is, and forgets what was not sent."
            )
        )
        raise StoppedError(_UNSENT + paid)


def rehearse(plan: Sequence[Planned], *, max_credits: float | None, json: bool, quiet: bool) -> int:
    """Show what would be done, and return the exit code."""
    console, totals = make_console(), Totals.of(plan)
    if json:
        for planned in plan:
            say_json(console, _as_json(planned))
    elif not quiet:
        show(console, _table(plan, console), is_data=True)
        parts = [f"{_clips(totals.send)} would be sent, for {_cost(totals)}"]
        for count, word in (
            (totals.fetch, "paid for already"),
            (totals.done, "there already"),
            (totals.refuse, "not possible"),
        ):
            if count:
                parts.append(f"{count} {word}")
        say(console, f"{', '.join(parts)}. Nothing was sent.")
    errors = make_console(stderr=True)
    for planned in plan:
        if planned.error is not None:
            complain(errors, words(planned.error) if len(plan) == 1 else _why_not(planned))
    keep_bound(totals, max_credits)
    return joint_code(None if p.error is None else exit_code(p.error) for p in plan)


def _table(plan: Sequence[Planned], console: Console) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("clip", overflow="ellipsis", no_wrap=is_live(console))
    for heading in ("length", "size", "credits"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("result", overflow="fold")
    for planned in plan:
        table.add_row(
            Text(planned.wish.name),
            "" if planned.seconds is None else f"{planned.seconds:.1f} s",
            "" if planned.size is None else size(planned.size),
            "?" if planned.credits is None else f"{planned.credits:g}",
            Text(_result(planned)),
        )
    return table


def _why_not(planned: Planned) -> str:
    assert planned.error is not None
    text, name = words(planned.error), planned.wish.name
    return text if name in text else f"{name}: {text}"


def _result(planned: Planned) -> str:
    output = clean(planned.wish.output, 4096)
    if planned.action == "done":
        return f"{output} (there already)"
    if planned.action == "fetch":
        return f"{output} (paid for already)"
    return output if planned.action == "send" else "not possible"


def _as_json(planned: Planned) -> dict[str, object]:
    return {
        "event": "plan",
        "clip": planned.wish.told,
        "action": planned.action,
        "path": str(planned.wish.output.absolute()),
        "length": planned.seconds,
        "bytes": planned.size,
        "credits": planned.credits,
        "task_id": planned.task_id,
        "reference": planned.wish.reference,
        "error": None if planned.error is None else error_as_json(planned.error),
    }


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


def _cost(totals: Totals) -> str:
    if totals.unpriced == totals.send and totals.send:
        return "an amount that nobody can tell beforehand"
    more = f", and more for {_clips(totals.unpriced)} of unknown length" if totals.unpriced else ""
    return f"about {totals.credits:g} credits ({totals.credits * CREDIT_DOLLARS:.2f} USD){more}"


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())
