"""A random history of claims, answers, crashes and restarts against a plain table in memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import attrs
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from topaz_async.errors import JournalError
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent

T = TypeVar("T")

REFERENCES = st.sampled_from(["a", "b", None])
WORK = st.sampled_from(["f", "g"])
WHO = st.sampled_from([0, 1])
STATES = st.sampled_from(["waiting", "generating", "odd", "success", "completed", "fail", "error"])
GOOD, BAD = {"success", "completed"}, {"fail", "error"}


@attrs.define
class Row:
    """One attempt, as the model holds it."""

    id: int
    reference: str | None
    fingerprint: str
    owner: int
    submit: str = "intent"
    task_id: str | None = None
    state: str | None = None


class History(RuleBasedStateMachine):
    """Two journals over one file; a crash of one is what its file locks make of a kill."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "jobs.sqlite")
        self.journals = [SqliteJournal(self.path), SqliteJournal(self.path)]
        self.lives = [1, 2]
        self.births = 2
        self.rows: list[Row] = []
        self.tasks = self.newest = 0

    def teardown(self) -> None:
        for journal in self.journals:
            self.run(journal.aclose())
        self.loop.close()
        self.folder.cleanup()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def look(self, row: Row) -> str:
        """What a row reads as: an intent of the dead is unknown."""
        dead = row.submit == "intent" and row.owner not in self.lives
        return "unknown" if dead else row.submit

    def standing(self, reference: str | None) -> Row | None:
        mine = [row for row in self.rows if row.reference == reference and reference is not None]
        bought = [row for row in mine if row.submit != "refused"]
        newest = (bought or mine or [None])[-1]
        if newest is None or newest.submit not in ("intent", "unknown"):
            return newest
        made = [row for row in bought if row.submit == "made" and row.state not in BAD]
        return ([row for row in made if row.fingerprint == newest.fingerprint] or [newest])[-1]

    @rule(reference=REFERENCES, work=WORK, who=WHO, unknown=st.booleans(), failed=st.booleans())
    def claim(
        self, reference: str | None, work: str, who: int, unknown: bool, failed: bool
    ) -> None:
        row = self.standing(reference)
        if row is None or self.look(row) == "refused":
            expected = "granted"
        elif row.fingerprint != work:
            expected = "conflict"
        elif self.look(row) == "intent":
            expected = "in flight"
        elif self.look(row) == "unknown":
            expected = "granted" if unknown else "existing"
        else:
            expected = "granted" if failed and row.state in BAD else "existing"
        claim = self.run(
            self.journals[who].claim(
                Intent(reference=reference, fingerprint=work, model="m"),
                resubmit_unknown=unknown,
                resubmit_failed=failed,
            )
        )
        assert claim.verdict == expected
        if row is not None and self.look(row) == "unknown":
            row.submit = "unknown"
        if expected == "granted":
            assert claim.entry.id > self.newest
            self.newest = claim.entry.id
            self.rows.append(Row(claim.entry.id, reference, work, self.lives[who]))
        else:
            assert row is not None
            assert (claim.entry.id, claim.entry.submit) == (row.id, self.look(row))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), who=WHO, what=st.sampled_from(["bind", "bind", "refuse", "lose"]))
    def answer(self, data: st.DataObject, who: int, what: str) -> None:
        row = data.draw(st.sampled_from(self.rows))
        journal = self.journals[who]
        if what == "bind":
            self.tasks += 1
            call = journal.bind(row.id, f"t{self.tasks}")
        else:
            call = getattr(journal, what)(row.id, 500, "words")
        try:
            self.run(call)
        except JournalError:
            assert row.submit == "made"
            return
        assert row.submit != "made"
        row.submit = {"bind": "made", "refuse": "refused", "lose": "unknown"}[what]
        if what == "bind":
            row.task_id = f"t{self.tasks}"

    @precondition(lambda self: any(row.task_id for row in self.rows))
    @rule(data=st.data(), who=WHO, state=STATES)
    def note(self, data: st.DataObject, who: int, state: str) -> None:
        row = data.draw(st.sampled_from([row for row in self.rows if row.task_id]))
        assert row.task_id is not None
        urls = ["https://x.example/a.mp4"] if state in GOOD else []
        self.run(self.journals[who].note(row.task_id, state=state, result_urls=urls))
        if row.state not in GOOD | BAD:
            row.state = state

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        self.run(self.journals[who].aclose())
        self.births += 1
        self.lives[who] = self.births
        self.journals[who] = SqliteJournal(self.path)

    @rule(reference=st.sampled_from(["a", "b"]), who=WHO)
    def forget(self, reference: str, who: int) -> None:
        row = self.standing(reference)
        try:
            dropped = self.run(self.journals[who].forget(reference))
        except JournalError:
            assert row is not None
            assert self.look(row) == "intent"
            return
        assert dropped == (row is not None)
        self.rows = [row for row in self.rows if row.reference != reference]

    def is_superseded(self, row: Row) -> bool:
        return row.reference is not None and any(
            later.submit == "made" and later.reference == row.reference
            for later in self.rows[self.rows.index(row) + 1 :]
        )

    @invariant()
    def both_see_the_same(self) -> None:
        expected = [
            (row.id, row.intent.reference, row.submit, row.task_id, row.state)
            for row in self.run(self.journals[0].jobs())
        ]
        assert expected == [
            (row.id, row.reference, self.look(row), row.task_id, row.state) for row in self.rows
        ]
        unfinished = [row.id for row in self.run(self.journals[1].jobs("unfinished"))]
        assert unfinished == [
            row.id
            for row in self.rows
            if (self.look(row) == "unknown" and not self.is_superseded(row))
            or (row.submit == "made" and row.state not in GOOD | BAD)
        ]
        for reference in ("a", "b"):
            found = self.run(self.journals[1].find(reference))
            row = self.standing(reference)
            assert (found.id if found else None) == (row.id if row else None)


History.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestHistory = History.TestCase
TestHistory.__doc__ = "No history makes the journal forget an id, or grant what it must not."
