"""Faults as data: which request is to go wrong, how, and how often."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal

import attrs

#: When a fault strikes. ``before``: instead of acting. ``after``: the service acts, the answer is
#: spoilt. ``content``: the answer says something else. ``callback``: the POST to the caller.
Phase = Literal["before", "after", "content", "callback"]


@attrs.frozen
class Action:
    """One way to go wrong."""

    phase: Phase
    #: Pattern of the routes it makes sense on.
    routes: str
    what: str


ACTIONS: Final[Mapping[str, Action]] = {
    # Nothing is done, so nothing is billed.
    "answer": Action("before", "*", "answer `status`/`body`, or `code`/`msg` as JSON; HTML 502"),
    "empty": Action("before", "*", "answer `status` (200) with an empty body"),
    "reset": Action("before", "*", "reset the connection (RST)"),
    "close": Action("before", "*", "close the connection without an answer"),
    "hang": Action("before", "*", "never answer, or reset after `seconds`"),
    "redirect": Action("before", "*", "answer 307 (`status`) to `location`, another host"),
    "garbage": Action("before", "*", "send bytes that are not HTTP (`body`)"),
    "bomb": Action("before", "*", "answer gzip that unpacks to 1 GB of spaces"),
    # The service acts (a task is made and billed), the caller does not hear of it properly.
    "slow": Action("after", "*", "act, wait `seconds`, then answer"),
    "lost_reply": Action("after", "*", "act, then reset the connection"),
    "lost_reply_close": Action("after", "*", "act, then close without an answer"),
    "act_then_answer": Action("after", "*", "act, then answer as `answer` does"),
    "act_then_empty": Action("after", "*", "act, then answer HTTP 200 with an empty body"),
    "act_then_hang": Action("after", "*", "act, then never answer, or reset after `seconds`"),
    "truncate": Action("after", "*", "answer the first `fraction` of the body as if it were all"),
    "cut": Action("after", "*", "promise the whole body, send `fraction` of it, then reset"),
    "cut_close": Action("after", "*", "promise the whole body, send `fraction`, then close"),
    "drip": Action("after", "*", "send the body byte by byte, `seconds` (0.05) apart"),
    "endless": Action("after", "*", "send spaces for ever, chunked (bare over HTTP/1.0)"),
    "stall": Action("after", "*", "send `fraction` of the body, then nothing more"),
    "no_content_type": Action("after", "*", "leave out the Content-Type"),
    "html_type": Action("after", "*", "call the true body text/html"),
    # The exchange is sound, its words are not.
    "missing_task_id": Action("content", "createTask", "make the task, answer 200 without an id"),
    "fail": Action("content", "createTask", "make the task; it ends with `fail_code`/`fail_msg`"),
    "fail_at_once": Action("content", "createTask", "the same, at once and with null times"),
    "null_record": Action("content", "recordInfo", "422 `recordInfo is null`"),
    "null_data": Action("content", "recordInfo", "200 with `data` null"),
    "state": Action("content", "recordInfo", "say `state` (`reviewing`) instead of the real one"),
    "result_empty": Action("content", "recordInfo", "success, `resultJson` empty, no `response`"),
    "result_broken": Action("content", "recordInfo", "success, `resultJson` is no JSON"),
    "result_object": Action("content", "recordInfo", "success, `resultJson` is an object"),
    "result_no_url": Action("content", "recordInfo", "success, but an empty list of URLs"),
    "result_url": Action("content", "recordInfo", "success, the URL is `location`"),
    "expired": Action("content", "files", "the link is dead: `status` (404)"),
    # The POST to the caller's own URL.
    "lost": Action("callback", "callback", "send nothing"),
    "duplicate": Action("callback", "callback", "send it `copies` times"),
    "late": Action("callback", "callback", "send it `seconds` late"),
    "forged": Action("callback", "callback", "sign with a wrong key, claim a URL at `location`"),
    "unsigned": Action("callback", "callback", "leave the signature out"),
    "stale": Action("callback", "callback", "sign with a time `seconds` (3600) in the past"),
    "two_ids": Action("callback", "callback", "two ids that disagree; the signed one is true"),
    "guide_body": Action("callback", "callback", "the short body of the verification guide"),
}

#: Actions that strike only when the record would say success; others would be spent unseen.
ON_SUCCESS: Final = frozenset(name for name in ACTIONS if name.startswith("result_"))

#: Actions after which the peer never sees a status line.
UNANSWERED: Final = frozenset(
    {"reset", "close", "hang", "garbage", "lost_reply", "lost_reply_close", "act_then_hang"}
)


def _known(_: object, __: object, action: str) -> None:
    if action not in ACTIONS:
        raise ValueError(f"unknown fault action {action!r}; known: {', '.join(ACTIONS)}")


@attrs.frozen
class Fault:
    """One rule: on this route, do this, so many times."""

    #: Name of a route, or a pattern: ``createTask``, ``file-*-upload``, ``*``.
    route: str
    #: A key of `ACTIONS`.
    action: str = attrs.field(validator=_known)
    #: Requests it strikes; None for all.
    times: int | None = 1
    #: Matching requests it lets pass first.
    after: int = 0
    #: Chance from 0 to 1 that a matching request is struck.
    probability: float = 1.0
    #: Text that the request's path or body must hold, for example a task id or a video URL.
    only: str = ""
    #: HTTP status of the answer; None for the action's own.
    status: int | None = None
    #: The API's code; None for no JSON envelope.
    code: int | None = None
    msg: str | None = None
    body: str | bytes | None = None
    #: ``Retry-After`` of the answer: seconds, or any text.
    retry_after: float | str | None = None
    #: Further headers of the answer.
    headers: Mapping[str, str] = attrs.field(factory=dict)
    #: Seconds to wait, where the action waits; None for the action's own.
    seconds: float | None = None
    #: Part of the body that is sent, 0 to 1.
    fraction: float = 0.5
    #: Where a redirect or a forged result points.
    location: str | None = None
    state: str = "reviewing"
    fail_code: str | None = "500"
    fail_msg: str | None = "Internal Error"
    copies: int = 2

    @property
    def phase(self) -> Phase:
        """When it strikes."""
        return ACTIONS[self.action].phase


@attrs.define
class _Rule:
    fault: Fault
    matched: int = 0
    struck: int = 0


class Faults:
    """The rules in force, in order; of those of one phase the first that matches strikes."""

    def __init__(self, faults: Iterable[Fault], chance: random.Random) -> None:
        self._rules = [_Rule(fault) for fault in faults]
        self._chance = chance

    def add(self, fault: Fault) -> None:
        """Put a rule behind the others."""
        self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """Drop all rules."""
        self._rules.clear()

    def struck(self, fault: Fault) -> int:
        """Return how often ``fault`` has struck."""
        return sum(rule.struck for rule in self._rules if rule.fault == fault)

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The rules that may still strike."""
        return tuple(
            r.fault for r in self._rules if r.fault.times is None or r.struck < r.fault.times
        )

    def draw(self, route: str, text: str, *phases: Phase, success: bool = False) -> Fault | None:
        """Return the fault that strikes this request, and count it.

        Args:
            route: The request's route.
            text: Its path and body, for `Fault.only`.
            phases: Which faults are asked for.
            success: Whether the record to be answered says success.
        """
        for rule in self._rules:
            fault = rule.fault
            if (
                fault.phase not in phases
                or not fnmatchcase(route, fault.route)
                or not fnmatchcase(route, ACTIONS[fault.action].routes)
                or fault.only not in text
                or (fault.action in ON_SUCCESS and not success)
            ):
                continue
            rule.matched += 1
            if rule.matched <= fault.after or (
                fault.times is not None and rule.struck >= fault.times
            ):
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            rule.struck += 1
            return fault
        return None
