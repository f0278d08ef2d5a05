"""Faults by the hundred against one rule: never pay twice, never lose a paid task.

`python -m tests.faults [--faults 500] [--seed 1]` plays random histories of submits, broken
exchanges, cancellations, crashes, restarts and `kill -9` against the sandbox, compares the books
of both sides after every step, and ends with one line of figures; its exit code is 1 when a
figure that must be zero is not.

`World` is one such history, `Nursery` starts the processes that are killed; tests use them too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs

from topaz_async import (
    Job,
    JournalError,
    PollPolicy,
    Quotas,
    RetryPolicy,
    SqliteJournal,
    Timeouts,
    TopazClient,
    TopazError,
)
from topaz_async.ports import KeptUpload
from topaz_async.sandbox import CopyEngine, Fault, Sandbox, Task

try:
    import resource
except ImportError:  # Windows, where nothing is killed or filled
    resource = None  # type: ignore[assignment]

__all__ = ["FAULTS", "Call", "Nursery", "World", "brisk", "plain_sandbox", "play", "turns"]

ROOT = Path(__file__).parents[1]

#: Seconds: long enough for a healthy exchange on a busy machine, short enough for many silences.
BRISK = Timeouts(submit=0.25, close=0.05, poll=1.0, connect=2.0)
BRISK_RETRY = RetryPolicy(first=0.002, longest=0.01, longest_retry_after=0.03)
BRISK_POLLING = PollPolicy(first=0.01, longest=0.03, outage=0.3, grace=0.1)
#: Every submit of a file uploads it, so that uploads meet their faults too.
BRISK_QUOTAS = Quotas(submits=None, submit_window=0.02, polls=None, reuse_uploads=0)


def _create(action: str, **how: Any) -> Fault:
    return Fault("createTask", action, **how)


def _answers(action: str, *ways: dict[str, Any]) -> list[Fault]:
    return [_create(action, **how) for how in ways]


#: What can go wrong with a createTask, by what it means for the purse.
FAULTS: dict[str, list[Fault]] = {
    "refused": _answers(
        "answer",
        {"code": 429, "msg": "Rate limit exceeded"},
        {"code": 429, "status": 429, "msg": "Rate limit exceeded", "retry_after": 0.01},
        {"code": 429, "status": 429, "msg": "Rate limit exceeded", "retry_after": 10**9},
        {"code": 429, "status": 429, "msg": "Rate limit exceeded", "retry_after": "later"},
        {"code": 429, "msg": "Rate limit exceeded", "times": 5},
        {"code": 455, "msg": "Maintenance"},
        {"code": 402, "msg": "The current credits are insufficient. Please top up."},
        {"code": 401, "msg": "You do not have access permissions"},
        {"code": 422, "msg": "The input cannot be null"},
        {"code": 433, "msg": "The key's quota is used up"},
        {"code": 505, "msg": "The feature is disabled"},
        {"code": 500, "msg": "This field is required"},
        {"code": 500, "msg": "upscale_factor is not within the range of allowed options"},
        {"code": 500, "msg": "Credits insufficient"},
        {"status": 403, "body": "error code: 1010"},
    ),
    "not bought, unclear": [
        *_answers(
            "answer",
            {"code": 500, "msg": "Server exception, please try again later"},
            {"code": 500, "msg": "Internal Error"},
            {"code": 408, "msg": "Upstream gave nothing"},
            {"code": 501, "msg": "Generation failed"},
            {"status": 502},
            {"status": 504},
            {"status": 200, "body": "<html><body>Welcome</body></html>"},
        ),
        _create("empty"),
        _create("reset"),
        _create("close"),
        _create("hang"),
        _create("hang", seconds=0.02),
        _create("redirect"),
        _create("redirect", status=302),
        _create("garbage"),
        _create("garbage", body=b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"code":200'),
        _create("bomb"),
    ],
    "bought, answer spoilt": [
        _create("slow", seconds=0.02),
        _create("slow", seconds=0.4),
        _create("lost_reply"),
        _create("lost_reply_close"),
        *_answers(
            "act_then_answer",
            {"status": 502},
            {"status": 504},
            {"code": 500, "msg": "Internal Error"},
            {"code": 408, "msg": "Upstream gave nothing"},
            {"code": 599, "msg": "Who knows"},
        ),
        _create("act_then_empty"),
        _create("act_then_hang"),
        _create("act_then_hang", seconds=0.02),
        *(_create("truncate", fraction=part) for part in (0.0, 0.3, 0.6, 0.9)),
        *(_create("cut", fraction=part) for part in (0.0, 0.5, 0.9, 1.0)),
        _create("cut_close", fraction=0.7),
        _create("stall", fraction=0.5),
        _create("stall", fraction=1.0),
        _create("drip", seconds=0.0005),
        _create("drip", seconds=0.05),
        _create("endless"),
        _create("no_content_type"),
        _create("html_type"),
        _create("missing_task_id"),
    ],
    "the task fails": [
        _create("fail", fail_msg="Internal Error"),
        _create("fail_at_once", fail_code="422", fail_msg="task id is blank"),
    ],
    "uploads and questions": [
        Fault("file-stream-upload", "reset"),
        Fault("file-stream-upload", "lost_reply"),
        Fault("file-stream-upload", "answer", status=502),
        Fault("file-stream-upload", "truncate"),
        Fault("file-stream-upload", "answer", status=502, times=4),
        Fault("recordInfo", "null_record"),
        Fault("recordInfo", "reset"),
        Fault("recordInfo", "answer", status=502, times=3),
        Fault("recordInfo", "answer", code=429, msg="Rate limit exceeded"),
    ],
}

#: The smallest files that pass for clips.
CLIPS = tuple(b"\0\0\0\x10ftypisom\0\0\0\0" + word for word in (b"one", b"two"))


def plain_sandbox(**options: Any) -> Sandbox:
    """Return a sandbox that does no video work and never runs out of credits or quota."""
    settings: dict[str, Any] = {
        "engine": CopyEngine(seconds=0.1),
        "queue_seconds": 0.0,
        "run_seconds": 0.0,
        "submit_quota": None,
        "poll_quota": None,
        "credits": 1e12,
        **options,
    }
    return Sandbox(**settings)


def brisk(base_url: str, upload_url: str, key: str, **options: Any) -> TopazClient:
    """Return a client that waits for nothing longer than it must."""
    settings: dict[str, Any] = {
        "base_url": base_url,
        "upload_url": upload_url,
        "timeouts": BRISK,
        "retry": BRISK_RETRY,
        "polling": BRISK_POLLING,
        "quotas": BRISK_QUOTAS,
        **options,
    }
    return TopazClient(key, **settings)


class Mortal:
    """A journal whose process can die: from then on not one more call reaches the file."""

    durable = True

    def __init__(self, path: Path) -> None:
        self.inner = SqliteJournal(path)
        self.dead = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name)

        async def call(*args: Any, **options: Any) -> Any:
            if self.dead:
                raise JournalError("The process is dead.")
            return await method(*args, **options)

        return call

    def note_soon(self, *args: Any, **options: Any) -> None:
        if not self.dead:
            self.inner.note_soon(*args, **options)

    def keep_upload_soon(self, upload: KeptUpload) -> None:
        if not self.dead:
            self.inner.keep_upload_soon(upload)

    def forget_upload_soon(self, url: str) -> None:
        if not self.dead:
            self.inner.forget_upload_soon(url)


@attrs.define(eq=False)
class Life:
    """One client with its journal, as one process would have them."""

    client: TopazClient
    journal: Mortal


@attrs.define(eq=False)
class Call:
    """One submit, numbered: its number stands in the callback URL of whatever it buys."""

    number: int
    reference: str | None
    consents: bool
    life: Life
    task: asyncio.Task[Job]
    cancelled: bool = False
    #: Its client died before it ended: nobody was told anything.
    void: bool = False

    @property
    def error(self) -> BaseException | None:
        return self.task.exception() if self.task.done() and not self.task.cancelled() else None

    @property
    def told(self) -> str | None:
        """The task id that the caller was told, by a job or by an error."""
        if self.void or not self.task.done() or self.task.cancelled():
            return None
        return getattr(self.error, "task_id", None) if self.error else self.task.result().task_id


class World:
    """A sandbox, a journal, two clients as two processes would be, and all they were told.

    Every step is a method; `problems()` compares the books and may be asked after each.
    """

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.sandbox = plain_sandbox(seed=seed)
        self.path = folder / "jobs.sqlite"
        self.calls: list[Call] = []
        #: Faults that are not the sandbox's: cancelled, crashed, and so on.
        self.done_to_it: Counter[str] = Counter()
        self._folder = folder
        self._videos: list[Path | str] = []
        self._hung: list[str] = []
        #: The reference of each submit of a child process, by its name, and what it was told.
        self._children: dict[str, str] = {}
        self._told: list[str] = []
        self._video_of: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await self.sandbox.start()
        self._auditor = SqliteJournal(self.path)
        self._refused = socket.socket()  # bound and never listening: connections are refused
        self._refused.bind(("127.0.0.1", 0))
        for number, content in enumerate(CLIPS):
            clip = self._folder / f"{number}.mp4"
            clip.write_bytes(content)
            self._videos.append(clip)
        self.lives = [self._life(), self._life()]
        hosted = await self.lives[0].client.upload(CLIPS[0])
        # A link that works, and one that no service can fetch.
        self._videos += [hosted.url, "https://files.example/clip.mp4"]
        return self

    async def __aexit__(self, *_: object) -> None:
        for life in self.lives:
            await life.client.aclose()
            await life.journal.inner.aclose()
        await asyncio.gather(*(call.task for call in self.calls), return_exceptions=True)
        await self._auditor.aclose()
        await self.sandbox.aclose()
        self._refused.close()

    def _life(self, journal: Mortal | None = None, base_url: str | None = None) -> Life:
        journal = journal or Mortal(self.path)
        sandbox = self.sandbox
        url = base_url or sandbox.base_url
        client = brisk(url, sandbox.upload_url, sandbox.api_key, journal=journal)
        return Life(client, journal)

    # -- steps ------------------------------------------------------------------------------

    def submit(
        self,
        video: int,
        *,
        reference: str | None = None,
        at: int = 0,
        consents: bool = False,
        offline: bool = False,
    ) -> Call:
        """Begin a submit.

        Args:
            video: Which of the videos, from 0 to 3.
            reference: What its caller calls it.
            at: Which client, 0 or 1.
            consents: Whether it is repeated even if that pays twice.
            offline: Whether the service cannot be reached.
        """
        life = self.lives[at]
        if offline:
            life = self._life(life.journal, f"http://127.0.0.1:{self._refused.getsockname()[1]}")
            self.done_to_it["connection refused"] += 1
        number = len(self.calls)
        submit = life.client.submit(
            self._videos[video],
            reference=reference,
            callback_url=f"https://bot.example/hook?call={number}",
            resubmit_unknown=consents,
            resubmit_failed=consents,
        )
        task = asyncio.create_task(
            _closing(life.client, submit) if offline else submit, name=f"submit {number}"
        )
        self.calls.append(Call(number, reference, consents, life, task))
        if reference is not None:
            self._video_of.setdefault(reference, video)
        return self.calls[-1]

    def cancel(self, nth: int) -> None:
        """Cancel one of the calls under way."""
        under_way = [call for call in self.calls if not call.task.done()]
        if under_way:
            call = under_way[nth % len(under_way)]
            call.cancelled = True
            call.task.cancel()
            self.done_to_it["caller cancelled"] += 1

    async def restart(self, at: int, *, how: str) -> None:
        """End a client and begin another.

        Args:
            at: Which.
            how: "crash": nothing more is written and the owner's lock is gone; "close": client
                and journal are closed; "client": only the client is, its journal is handed on.
        """
        life = self.lives[at]
        if how == "crash":
            life.journal.dead = True
            for call in self.calls:
                call.void |= call.life.journal is life.journal and not call.task.done()
            self.done_to_it["crash of a client"] += 1
        await life.client.aclose()
        if how != "client":
            await life.journal.inner.aclose()
        self.lives[at] = self._life(life.journal if how == "client" else None)

    async def kill(
        self, nursery: Nursery, *, video: int, reference: str, word: str, delay: float = 0.0
    ) -> list[str]:
        """Let another process submit, `kill -9` it, and return what it said before.

        Args:
            nursery: Where it is born.
            video: As for `submit`.
            reference: As for `submit`.
            word: The moment: what the child says, or "arrived" and "bought": the service sees
                its request, the service has made its task.
            delay: Seconds from then.
        """
        child = await self.bear(nursery, video=video, reference=reference)
        mark = f"call={len(self._children) - 1}-child"
        watch = asyncio.create_task(self._moment(word, mark))
        watch.add_done_callback(lambda _: watch.cancelled() or child.kill(delay))
        said = []
        async for line in child.lines():
            said.append(line)
            if line == word:
                child.kill(delay)
            self.hear(line)
        watch.cancel()
        self.done_to_it["kill -9"] += "end" not in said
        return said

    def hear(self, line: str) -> None:
        """Keep what a child was told, if that is what it says."""
        if line.startswith("told "):
            self._told.append(line.split()[1])

    async def bear(self, nursery: Nursery, *, video: int, reference: str, **more: Any) -> Child:
        """Start another process that submits; see `_live` for what it may be told besides."""
        name = f"{len(self._children)}-child"
        self._children[name] = reference
        self._video_of.setdefault(reference, video)
        sandbox = self.sandbox
        return await nursery.bear(
            base_url=sandbox.base_url,
            upload_url=sandbox.upload_url,
            key=sandbox.api_key,
            journal=str(self.path),
            video=str(self._videos[video]),
            reference=reference,
            callback_url=f"https://bot.example/hook?call={name}",
            **more,
        )

    async def _moment(self, word: str, mark: str) -> None:
        if word == "arrived":
            await self.sandbox.books.until(
                lambda books: any(mark in seen.body for seen in books.routed("createTask")[-5:]),
                timeout=60.0,
            )
        elif word == "bought":
            await self.sandbox.books.until(
                lambda books: any(mark in (t.callback_url or "") for t in books.tasks.values()),
                timeout=60.0,
            )
        else:
            await asyncio.get_running_loop().create_future()

    async def recover(self, at: int) -> list[str]:
        """Recover in a client, and return the problems: what it sent, what it did not list."""
        quiet = not _under_way()
        sent = self.sandbox.books.count("createTask")
        before = await self._auditor.jobs("unfinished")
        jobs = [job async for job in self.lives[at].client.recover()]
        problems = []
        if quiet and self.sandbox.books.count("createTask") != sent:
            problems.append("double submit: recover() sent a createTask")
        after = {entry.id: entry for entry in await self._auditor.jobs("unfinished")}
        listed = {(job.reference, job.task_id, job.unknown) for job in jobs}
        for entry in before:
            still = after.get(entry.id)
            if still is None or still.submit != entry.submit:
                continue  # an answer came meanwhile
            what = (entry.intent.reference, entry.task_id or "", entry.submit == "unknown")
            if what not in listed:
                problems.append(f"lost task id: {what} is not recovered")
        return problems

    async def wait(self, nth: int, at: int) -> list[str]:
        """Wait for one of the tasks that the journal knows."""
        ids = [entry.task_id for entry in await self._auditor.jobs("made") if entry.task_id]
        if not ids:
            return []
        task_id = ids[nth % len(ids)]
        sent = self.sandbox.books.count("createTask")
        quiet = not _under_way()
        try:
            await self.lives[at].client.wait_for_result(task_id, timeout=0.5)
        except TopazError as error:
            if error.billed == "no" and self.sandbox.books.billed[task_id]:
                return [f"contradiction: a wait for {task_id} said that nothing was billed"]
            if error.task_id != task_id:
                return [f"lost task id: {error!r} does not carry {task_id}"]
        if quiet and self.sandbox.books.count("createTask") != sent:
            return ["double submit: a wait sent a createTask"]
        return []

    async def bind(self, nth: int, at: int) -> list[str]:
        """Bind a task, found by hand, to an unknown submit that made it."""
        entries = await self._auditor.jobs("unknown")
        consented = {call.reference for call in self.calls if call.consents}
        pairs = [
            (entry.intent.reference, task.task_id)
            for entry in entries
            for task in self._tasks()
            if entry.intent.nonce == _query(task, "topaz_nonce")
            and entry.intent.reference is not None
            and entry.intent.reference not in consented
        ]
        if not pairs:
            return []
        reference, task_id = pairs[nth % len(pairs)]
        assert reference is not None
        try:
            job = await self.lives[at].client.bind(reference, task_id)
        except TopazError as error:
            passing = error.retryable or error.billed == "unknown"
            return [] if passing else [f"lost task id: {task_id} cannot be bound: {error!r}"]
        found = await self._auditor.find(reference)
        if found is None or found.task_id != job.task_id:
            return [f"lost task id: {task_id} was bound and is not in the journal"]
        return []

    async def settle(self) -> None:
        """Let every call end; one that does not is a problem."""
        pending = {call.task for call in self.calls if not call.task.done()}
        if pending:
            _, late = await asyncio.wait(pending, timeout=20.0)
            self._hung += [f"hang: {task!r}" for task in late]

    # -- the books --------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """A clip on the web that the service can fetch."""
        return str(self._videos[2])

    @property
    def injected(self) -> Counter[str]:
        """Faults that really struck, by what they mean."""
        counts = Counter(self.done_to_it)
        for request in self.sandbox.books.requests:
            fault = request.fault
            if fault is not None:
                counts[next((g for g, each in FAULTS.items() if fault in each), "other")] += 1
        return counts

    def _tasks(self) -> list[Task]:
        return list(self.sandbox.books.tasks.values())

    async def problems(self, *, at_rest: bool = False) -> list[str]:
        """Return all that contradicts the rule.

        Args:
            at_rest: No exchange lives any more, so that no entry may be a mere intent.
        """
        tasks = self._tasks()
        done = [call for call in self.calls if call.task.done()]
        entries = await self._auditor.jobs()
        kept = defaultdict(list)
        for entry in entries:
            kept[entry.intent.nonce].append(entry)
        problems = list(self._hung)
        # What was bought is written down.
        for task in tasks:
            mine = kept[_query(task, "topaz_nonce")]
            if not any(
                entry.task_id == task.task_id
                or entry.submit == "unknown"
                or (entry.submit == "intent" and not at_rest)
                for entry in mine
            ):
                words = [entry.submit for entry in mine] or "absent"
                problems.append(f"lost task id: {task.task_id} is {words} in the journal")
            if any("cut off" in (e.words or "") for e in mine) and self._lives_on(task):
                problems.append(f"lost task id: {task.task_id} was cut off with its caller")
        if at_rest:
            problems += [
                f"lost task id: the intent of {entry.intent.reference} is nobody's"
                for entry in entries
                if entry.submit == "intent"
            ]
        # Nothing was bought twice.
        by_call = Counter(_query(task, "call") for task in tasks)
        problems += [f"double submit: call {n} bought {c}" for n, c in by_call.items() if c > 1]
        allowed = Counter(call.reference for call in self.calls if call.consents)
        owners = {str(call.number): call.reference for call in self.calls} | self._children
        by_reference = Counter(owners[str(name)] for name in by_call.elements())
        by_reference.pop(None, None)
        problems += [
            f"double submit: {reference} was bought {count} times"
            for reference, count in by_reference.items()
            if count > 1 + allowed[reference]
        ]
        # What callers were told is true.
        ids = {entry.task_id for entry in entries}
        words = " ".join(entry.words or "" for entry in entries)
        bought = {task.task_id for task in tasks}
        problems += [f"lost task id: a child was told {told}" for told in set(self._told) - ids]
        for call in done:
            if call.told in bought and call.told not in ids and call.told not in words:
                problems.append(f"lost task id: call {call.number} was told {call.told}")
            problems += self._untrue(call, by_call[str(call.number)], bought)
        if self.sandbox.books.keys_leaked():
            problems.append("leak: the key was sent after a redirect")
        return problems

    def _lives_on(self, task: Task) -> bool:
        """Tell whether the client that bought a task was never closed."""
        number = _query(task, "call") or ""
        return number.isdecimal() and self.calls[int(number)].life in self.lives

    @staticmethod
    def _untrue(call: Call, bought: int, ids: set[str]) -> list[str]:
        who = f"call {call.number} ({call.reference})"
        if call.task.cancelled():
            return [] if call.cancelled or call.void else [f"foreign: {who} was cancelled"]
        error = call.error
        if error is None:
            job = call.task.result()
            return [] if job.task_id in ids else [f"lost task id: {who} got {job} for a task"]
        if not isinstance(error, TopazError):
            return [f"foreign: {who} got {error!r}"]
        if error.billed == "no" and bought:
            return [f"contradiction: {who} bought and was told: {error}"]
        if error.billed == "yes" and not bought and error.task_id not in ids:
            return [f"contradiction: {who} bought nothing and was told: {error}"]
        return []

    async def end(self) -> list[str]:
        """Close everything, begin anew, ask for all work again; return the problems."""
        await self.settle()
        self.sandbox.faults.clear()
        # Whatever else happened, one client ends in the middle of an exchange.
        self.sandbox.add_fault(_create("act_then_hang"))
        bought = len(self._tasks())
        self.submit(2, reference="the last")
        await self.sandbox.books.until(lambda books: len(books.tasks) > bought)
        for at in range(2):
            await self.restart(at, how="client")
        problems = await self.problems(at_rest=True)
        for at in range(2):
            await self.restart(at, how="close")
        problems += await self.recover(0)
        bought = len(self._tasks())
        known = {
            entry.intent.reference
            for entry in await self._auditor.jobs()
            if entry.submit != "refused"
        }
        for reference, video in self._video_of.items():
            if reference in known:
                self.submit(video, reference=reference)
        await self.settle()
        if len(self._tasks()) != bought:
            problems.append("double submit: known work was bought again after the restart")
        for at in range(2):
            await self.restart(at, how="close")
        return problems + await self.problems(at_rest=True)


# -- processes that are killed ----------------------------------------------------------------


#: The nursery's own words; no step of a journal is called so.
BORN, ENDED = "-- born", "-- ended"


class Nursery:
    """A process that has loaded everything and forks a child for each submit.

    One child lives at a time; it is not reaped before its end was read here, so that its
    process id cannot have become another's when it is killed.
    """

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from tests.faults import nurse; nurse()",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def bear(self, **spec: Any) -> Child:
        """Start a child; see `_live` for what it is told."""
        self._tell(json.dumps(spec))
        return Child(int((await self._hear()).removeprefix(BORN)), self)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def _hear(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError("The nursery ended.")
        return line.decode().strip()


@attrs.define(eq=False)
class Child:
    """A process that submits one video."""

    pid: int
    _nursery: Nursery
    _ended: bool = False

    def kill(self, delay: float = 0.0) -> None:
        """`kill -9` it, some seconds from now."""
        asyncio.get_running_loop().call_later(delay, self._strike)

    def _strike(self) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)

    async def lines(self) -> AsyncIterator[str]:
        """Yield what it says until it has ended, however that came."""
        while (line := await self._nursery._hear()) != ENDED:
            yield line
        self._ended = True
        self._nursery._tell("reap")


def nurse() -> None:
    """Fork a child for each line of stdin; runs in the nursery's process."""
    for line in iter(sys.stdin.readline, ""):
        its_end, kept_open = os.pipe()
        pid = os.fork()
        if pid == 0:
            _say(BORN, os.getpid())
            try:
                asyncio.run(_live(**json.loads(line)))
            except BaseException:  # os._exit() would pass over it in silence
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(kept_open)
        os.read(its_end, 1)  # nothing is ever written: it returns when the child has gone
        os.close(its_end)
        _say(ENDED)
        sys.stdin.readline()
        os.waitpid(pid, 0)


def _say(*words: object) -> None:
    # One write, so that a kill never leaves half a line.
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


class Telling:
    """A journal that says each step aloud, and may run out of disk after one."""

    durable = True

    def __init__(self, path: str, full_after: str | None, room_again: bool) -> None:
        self.inner = SqliteJournal(path)
        self._full_after = full_after
        self._room_again = room_again

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.inner, name)

        async def call(*args: Any, **options: Any) -> Any:
            _say(name)
            try:
                outcome = await method(*args, **options)
            except JournalError:
                if self._room_again:
                    _limit_files(resource.RLIM_INFINITY)
                raise
            if name == self._full_after:
                _limit_files(0)
            _say(name, "done")
            return outcome

        return call

    def note_soon(self, *args: Any, **options: Any) -> None:
        self.inner.note_soon(*args, **options)

    def keep_upload_soon(self, upload: KeptUpload) -> None:
        self.inner.keep_upload_soon(upload)

    def forget_upload_soon(self, url: str) -> None:
        self.inner.forget_upload_soon(url)


def _limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def _live(
    *,
    base_url: str,
    upload_url: str,
    key: str,
    journal: str,
    video: str,
    reference: str,
    callback_url: str,
    full_after: str | None = None,
    room_again: bool = False,
    timeout: float = 5.0,
) -> None:
    """Submit once and say what happens.

    Args:
        base_url, upload_url, key, journal, video, reference, callback_url: As the client's.
        full_after: The journal's step after which the disk is full.
        room_again: Whether there is room again after the first failure.
        timeout: Seconds for createTask.
    """
    _say("start")
    kept = Telling(journal, full_after, room_again)
    client = brisk(
        base_url, upload_url, key, journal=kept, timeouts=attrs.evolve(BRISK, submit=timeout)
    )
    if full_after == "open":  # which is not the client's to call
        await kept.open()
    logging.getLogger("topaz_async").addHandler(_Aloud())
    async with client:
        try:
            job = await client.submit(video, reference=reference, callback_url=callback_url)
            _say("told", job.task_id)
        except TopazError as error:
            _say("error", type(error).__name__, error.billed)
    await kept.inner.aclose()
    _say("end")


class _Aloud(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say("log", record.levelname, record.getMessage())


# -- helpers ----------------------------------------------------------------------------------


async def _closing(client: TopazClient, submit: Any) -> Job:
    try:
        job: Job = await submit
        return job
    finally:
        await client.aclose()


def _under_way() -> bool:
    """Tell whether a createTask may leave by itself; callers who left do not end it."""
    return any(
        "submit" in task.get_name() or "createTask" in task.get_name()
        for task in asyncio.all_tasks()
    )


def _query(task: Task, name: str) -> str | None:
    return parse_qs(urlsplit(task.callback_url or "").query).get(name, [None])[0]


# -- random histories -------------------------------------------------------------------------


#: What a child says on its way, and the two moments that only the service sees.
MOMENTS = (
    "start", "find", "find done", "claim", "claim done", "arrived", "bought", "bind", "bind done",
)  # fmt: skip


async def play(
    world: World, chance: random.Random, steps: int, nursery: Nursery | None = None
) -> list[str]:
    """Play a random history and return its problems, those of the first step that has any."""
    faults = [fault for group in FAULTS.values() for fault in group]
    problems: list[str] = []
    for step in range(steps):
        at, work = chance.randrange(2), chance.randrange(4)
        # References come in twos, are used for a while, and then others are.
        reference = f"work-{work}-{step // 10 + chance.randrange(2)}"
        match chance.choices(
            ["submit", "crowd", "cancel", "pause", "restart", "recover", "wait", "bind", "kill"],
            [10, 3, 4, 4, 2, 1, 1, 1, 0 if nursery is None else 3],
        )[0]:
            case "submit" | "crowd" as what:
                world.sandbox.add_fault(chance.choice(faults))
                named = chance.random() < 0.85
                for _ in range(1 if what == "submit" else chance.randrange(2, 5)):
                    world.submit(
                        (work + (chance.random() < 0.05)) % 4,
                        reference=reference if named else None,
                        at=chance.randrange(2),
                        consents=chance.random() < 0.1,
                        offline=chance.random() < 0.05,
                    )
                await turns(chance.randrange(60))
            case "cancel":
                world.cancel(chance.randrange(100))
            case "pause":
                await asyncio.sleep(chance.choice([0.001, 0.005, 0.02, 0.3]))
            case "restart":
                await world.restart(at, how=chance.choice(["crash", "crash", "close", "client"]))
            case "recover":
                problems += await world.recover(at)
            case "wait":
                problems += await world.wait(chance.randrange(100), at)
            case "bind":
                problems += await world.bind(chance.randrange(100), at)
            case _:
                assert nursery is not None
                if chance.random() < 0.5:
                    world.sandbox.add_fault(chance.choice(FAULTS["bought, answer spoilt"]))
                await world.kill(
                    nursery,
                    video=work,
                    reference=f"work-{work}"
                    if chance.random() < 0.3
                    else f"killed-{chance.random()}",
                    word=chance.choice(MOMENTS),
                    delay=chance.choice([0.0, chance.uniform(0, 0.005), chance.uniform(0, 0.05)]),
                )
        problems += await world.problems()
        if problems:
            return problems
    return await world.end()


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- the campaign -----------------------------------------------------------------------------


@attrs.define
class Report:
    """What a campaign found."""

    seed: int
    injected: Counter[str] = attrs.field(factory=Counter)
    problems: list[str] = attrs.field(factory=list)
    histories: int = 0
    sent: int = 0
    bought: int = 0
    seconds: float = 0.0

    def count(self, kind: str) -> int:
        return sum(problem.startswith(f"{kind}:") for problem in self.problems)

    def __str__(self) -> str:
        rows = [f"{kind:<28}{count:>6}" for kind, count in sorted(self.injected.items())]
        return "\n".join(
            [
                f"{self.histories} histories: {self.sent} createTask requests, {self.bought} tasks",
                *rows,
                *(f"PROBLEM {problem}" for problem in self.problems),
                f"injected faults: {self.injected.total()}, "
                f"double submits: {self.count('double submit')}, "
                f"lost task ids: {self.count('lost task id')}, "
                f"seed {self.seed}, {self.seconds:.0f} s",
            ]
        )


async def campaign(faults: int, seed: int) -> Report:
    """Play histories until so many faults have struck."""
    report = Report(seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        async with Nursery() as nursery:
            while report.injected.total() < faults:
                folder = Path(made) / str(report.histories)
                folder.mkdir()
                chance = random.Random(f"{seed}-{report.histories}")
                async with World(folder, seed=seed) as world:
                    found = await play(world, chance, 40, nursery)
                    report.injected += world.injected
                    report.sent += world.sandbox.books.count("createTask")
                    report.bought += len(world.sandbox.books.tasks)
                report.problems += [f"{each} (history {report.histories})" for each in found]
                report.histories += 1
    report.seconds = time.monotonic() - began
    return report


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign, print what it found, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=500, help="how many must strike at least")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same choices")
    options = parser.parse_args(arguments)
    logging.getLogger("topaz_async").addHandler(logging.NullHandler())
    report = asyncio.run(campaign(options.faults, options.seed))
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
