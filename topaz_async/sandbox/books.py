"""The books of the sandbox: what arrived, what was answered, what was paid for."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from .credits import Account
from .faults import Fault

#: Requests that are kept word for word; older ones are dropped, counts are not.
KEPT_REQUESTS: Final = 100_000
#: Characters of a request's body that are kept.
KEPT_BODY: Final = 2000


@attrs.frozen
class SeenRequest:
    """One request as it arrived, and what became of it."""

    number: int
    #: ``createTask``, ``recordInfo``, ``file-stream-upload``, ``files`` and so on; ``unknown``.
    route: str
    method: str
    #: With the query.
    path: str
    #: Seconds on the loop's clock.
    arrived: float
    #: Keys in lower case; hold the key, so they stay out of the repr.
    headers: Mapping[str, str] = attrs.field(repr=False)
    #: First characters of the body; an upload's form fields without the file.
    body: str = ""
    #: HTTP status answered; None while under way, and for good when no answer was sent.
    status: int | None = None
    #: The API's code answered.
    code: int | None = None
    #: The fault that struck, if any.
    fault: Fault | None = None
    #: The task it made or asked about.
    task_id: str | None = None


@attrs.frozen
class Task:
    """One task, as it is now."""

    task_id: str
    #: 1 for the first task of this sandbox.
    number: int
    model: str
    #: The ``input`` object as the service keeps it: known fields, defaults filled in.
    input: Mapping[str, Any]
    #: ``video_url`` or ``image_url``.
    source: str
    factor: int
    callback_url: str | None
    #: Milliseconds since 1970.
    created: int
    state: str = "waiting"
    completed: int | None = None
    result_urls: tuple[str, ...] = ()
    fail_code: str | None = None
    fail_msg: str | None = None
    #: Credits held while it runs, kept on success, 0.0 after a failure.
    credits: float = 0.0
    #: SHA-256 of the input, where it was an upload of this sandbox.
    digest: str | None = None
    #: Why it failed, in words the service would not give.
    cause: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it is in a terminal state."""
        return self.state in ("success", "fail")


@attrs.frozen
class SeenUpload:
    """One file that was uploaded."""

    route: str
    url: str
    size: int
    #: SHA-256 of the content, in hex.
    digest: str


@attrs.frozen
class SentCallback:
    """One attempt to call back, or the note that none was made."""

    task_id: str
    url: str
    #: 1 for the first attempt; 0 when nothing was sent.
    attempt: int
    #: HTTP status of the receiver; None without an answer.
    status: int | None
    #: What the receiver got.
    body: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    #: Why nothing was sent or no answer came.
    note: str | None = None
    fault: Fault | None = None


class Books:
    """What a test asserts on; only the sandbox writes in it."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._requests: dict[int, SeenRequest] = {}
        self._counts: Counter[str] = Counter()
        self._arrivals: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._waiters: set[asyncio.Event] = set()
        #: Requests refused for the quota, by route.
        self.refused_429: Counter[str] = Counter()
        #: All tasks by id; a task in here was accepted, whether or not its maker heard of it.
        self.tasks: dict[str, Task] = {}
        self.uploads: list[SeenUpload] = []
        self.callbacks: list[SentCallback] = []

    # What tests read.

    @property
    def requests(self) -> list[SeenRequest]:
        """All requests in the order of arrival (the newest 100,000)."""
        return list(self._requests.values())

    @property
    def billed(self) -> dict[str, float]:
        """Credits held or taken for each accepted task, by task id; 0.0 once it has failed."""
        return {task.task_id: task.credits for task in self.tasks.values()}

    @property
    def credits(self) -> float:
        """Credits left, without those held."""
        return self._account.left

    def count(self, route: str | None = None) -> int:
        """Return how many requests arrived, refused and faulted ones included."""
        return sum(self._counts.values()) if route is None else self._counts[route]

    def routed(self, route: str) -> list[SeenRequest]:
        """Return the requests of one route."""
        return [request for request in self._requests.values() if request.route == route]

    def billed_by_input(self, url: str) -> list[str]:
        """Return the ids of all tasks made for one input URL; its query does not count."""
        bare = url.partition("?")[0]
        return [t.task_id for t in self.tasks.values() if t.source.partition("?")[0] == bare]

    def billed_by_content(self, content: bytes | Path) -> list[str]:
        """Return the ids of all tasks made for one uploaded content, whatever its URL was."""
        if isinstance(content, Path):
            content = content.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return [task.task_id for task in self.tasks.values() if task.digest == digest]

    def paid_twice(self) -> dict[str, list[str]]:
        """Return the task ids of every input that was submitted more than once.

        Inputs are the same when their content is (uploads), else their URL without its query;
        another model or factor is another purchase.
        """
        bought: defaultdict[str, list[str]] = defaultdict(list)
        for task in self.tasks.values():
            what = task.digest or task.source.partition("?")[0]
            bought[f"{task.model} x{task.factor} {what}"].append(task.task_id)
        return {what: ids for what, ids in bought.items() if len(ids) > 1}

    def busiest_window(self, route: str, seconds: float) -> int:
        """Return the largest number of requests that arrived in any window of ``seconds``."""
        arrivals = self._arrivals[route]
        # Half-open, as the quota counts: two arrivals exactly ``seconds`` apart do not share one.
        return max(
            (bisect_left(arrivals, first + seconds) - at for at, first in enumerate(arrivals)),
            default=0,
        )

    def keys_leaked(self) -> list[SeenRequest]:
        """Return the requests that carried a key where none belongs: to files, after a redirect."""
        places = ("files", "elsewhere")
        return [r for p in places for r in self.routed(p) if "authorization" in r.headers]

    async def until(self, true: Callable[[Books], bool], *, timeout: float = 5.0) -> None:
        """Wait until ``true(books)``; looked at again after each change.

        Raises:
            TimeoutError: It did not become true within ``timeout`` seconds.
        """
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(timeout):
                while not true(self):
                    changed.clear()
                    await changed.wait()
        finally:
            self._waiters.discard(changed)

    # What the sandbox writes.

    def note_arrival(
        self, route: str, method: str, path: str, arrived: float, headers: Mapping[str, str]
    ) -> int:
        """Enter a request, and return its number."""
        number = sum(self._counts.values()) + 1
        self._counts[route] += 1
        self._arrivals[route].append(arrived)
        self._requests[number] = SeenRequest(number, route, method, path, arrived, headers)
        if len(self._requests) > KEPT_REQUESTS:
            del self._requests[next(iter(self._requests))]
        self._changed()
        return number

    def note(self, number: int, **changes: Any) -> None:
        """Add what became known of a request."""
        if number in self._requests:
            self._requests[number] = attrs.evolve(self._requests[number], **changes)
            self._changed()

    def enter_task(self, task: Task) -> None:
        """Enter a task, or its new state."""
        self.tasks[task.task_id] = task
        self._changed()

    def enter_upload(self, upload: SeenUpload) -> None:
        """Enter an upload."""
        self.uploads.append(upload)
        self._changed()

    def enter_callback(self, callback: SentCallback) -> None:
        """Enter a callback."""
        self.callbacks.append(callback)
        self._changed()

    def _changed(self) -> None:
        for waiter in self._waiters:
            waiter.set()
