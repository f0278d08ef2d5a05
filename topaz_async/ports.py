"""The Protocols by which floors meet without importing each other, with the values they hand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Protocol

import attrs

from .urls import are_apart

__all__ = [
    "Answer",
    "CallbackReply",
    "Claim",
    "Doorbell",
    "Entry",
    "FilePart",
    "Hub",
    "Intent",
    "Journal",
    "KeptUpload",
    "Limiter",
    "Listener",
    "Repeat",
    "Request",
    "Send",
    "SubmitState",
]


class Repeat(Enum):
    """Whether a request may be sent again."""

    #: Only while it is certain that the service did not act on it.  For what costs money.
    IF_NOTHING_BOUGHT = "if nothing bought"
    #: A question, or something free: whenever it failed for a passing reason.
    FREELY = "freely"
    #: Somebody else decides (the poller has its own schedule).
    NEVER = "never"


@attrs.frozen(kw_only=True)
class FilePart:
    """The file of a multipart request."""

    field: str
    name: str
    content_type: str
    #: Bytes, or None when nobody knows beforehand.
    size: int | None
    #: Whether it can be read once only: then it is not sent again, and not over a connection that
    #: may have gone stale.
    once: bool = False
    #: Opens the content anew for each attempt.
    open: Callable[[], AsyncIterator[bytes]] = attrs.field(repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Request:
    """One request, said without saying how it is sent."""

    #: For logs and errors: "createTask".
    name: str
    method: str
    #: Absolute, without query.
    url: str
    repeat: Repeat
    #: Seconds for the whole exchange.
    timeout: float
    query: Mapping[str, str] = attrs.field(factory=dict)
    #: The JSON body, encoded.
    body: bytes | None = None
    #: The text fields of a multipart body, and its file.
    fields: Mapping[str, str] = attrs.field(factory=dict)
    file: FilePart | None = None
    #: Over a connection of its own: no answer of an earlier question can be taken for its own.
    fresh: bool = False


@attrs.frozen(kw_only=True)
class Answer:
    """What came back, said without saying how it was received."""

    status: int
    #: Lower-case names; what it echoes may be a secret.
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    #: Aware UTC, by this machine's clock.
    received_at: datetime


@attrs.frozen
class CallbackReply:
    """What to answer to a callback: a status, and a body of JSON."""

    status: int
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        return "application/json"


class Send(Protocol):
    """Sends a request once or more, as its `repeat` allows."""

    async def __call__(self, request: Request) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            ConnectError: The service has not seen the request.
            TransportError: It may have.
        """
        ...


class Limiter(Protocol):
    """Admits so many exchanges in any window."""

    async def __aenter__(self) -> object:
        """Wait for a slot and take it."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the slot back: it is free again one window from now."""
        ...

    def pause(self, seconds: float) -> None:
        """Admit nobody for so many seconds from now."""
        ...


class Doorbell(Protocol):
    """Knows of which tasks a callback has spoken, and whether callbacks are relied on."""

    def has_rung(self, task_id: str) -> bool:
        """Whether a callback has spoken of the task."""
        ...

    def rest(self, task_id: str) -> float:
        """Return the seconds for which the next look may be put off; 0 for none."""
        ...

    def ended(self, task_id: str) -> None:
        """A look saw the task's end."""
        ...


class Hub(Protocol):
    """Receives callbacks."""

    def attach(self, listener: Listener) -> None:
        """Tell somebody of each callback, until it is detached or forgotten."""
        ...

    def detach(self, listener: Listener) -> None:
        """Tell somebody no longer."""
        ...


class Listener(Protocol):
    """Somebody who wants to know of each task that a callback speaks of."""

    def hear(self, task_id: str, nonce: str | None, *, is_signed: bool) -> bool:
        """Take note of a callback, from any thread; True when somebody will ask now."""
        ...


#: What became of a submit: not yet known to anybody, and the three outcomes.
SubmitState = Literal["intent", "made", "refused", "unknown"]


@attrs.frozen(kw_only=True)
class Intent:
    """What a submit is about to buy, written down before it is sent."""

    #: The caller's own name for the work; None when the caller gave none.
    reference: str | None
    #: Tells two pieces of work apart: model, options and content.
    fingerprint: str
    model: str
    factor: str | None = None
    #: The input as it is sent, URLs without their query.
    input: Mapping[str, Any] = attrs.field(factory=dict)
    #: Length of the clip in seconds, and of the file in bytes, where known.
    seconds: float | None = None
    size: int | None = None
    #: SHA-256 of a local file's bytes, in hex.
    content_hash: str | None = None
    #: The opaque word in the callback URL's query.
    nonce: str | None = None
    #: Where the result is to be brought to, absolute; None when nobody said.
    output: str | None = None
    #: Origin of the service that it is bought from; None where nobody wrote it down.
    service: str | None = None

    def is_same_work(self, other: Intent) -> bool:
        """Whether another intent would buy the same, and neither is a mere rehearsal of it."""
        return self.fingerprint == other.fingerprint and not are_apart(self.service, other.service)


@attrs.frozen(kw_only=True)
class Entry:
    """One submit as the journal holds it."""

    id: int
    intent: Intent
    submit: SubmitState
    #: Aware UTC.
    created_at: datetime
    task_id: str | None = None
    submitted_at: datetime | None = None
    #: The code and the words of a refusal or of an unclear answer.
    code: int | None = None
    words: str | None = None
    #: The task's last state seen (the service's word), and when.
    state: str | None = None
    state_at: datetime | None = None
    result_urls: tuple[str, ...] = ()
    credits_consumed: float | None = None
    #: Seconds the task took by the service's clock.
    duration: float | None = None
    #: Where its result was downloaded to last, and to other places before, newest last.
    path: str | None = None
    earlier_paths: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Wherever its result was downloaded to."""
        return self.earlier_paths if self.path is None else (*self.earlier_paths, self.path)


@attrs.frozen
class Claim:
    """The journal's answer to an intent.

    `verdict` is one of:

    - "granted": the intent is written, the caller may send;
    - "existing": the reference stands for this very work, as `entry` says;
    - "in flight": a living process is sending it just now;
    - "conflict": the reference stands for other work.
    """

    verdict: Literal["granted", "existing", "in flight", "conflict"]
    entry: Entry


@attrs.frozen(kw_only=True)
class KeptUpload:
    """A local file that lies at the upload host, as far as anybody knows."""

    #: SHA-256 of its bytes, in hex, and their number.
    content_hash: str
    size: int
    #: Origin of the upload host.
    host: str
    url: str = attrs.field(repr=False)
    #: By this machine's clock, aware UTC.
    kept_at: datetime
    #: What the host said of it.
    name: str | None = None
    mime_type: str | None = None
    uploaded_at: datetime | None = None


class Journal(Protocol):
    """Remembers intents, task ids and uploads.

    Every method raises `JournalError` when the journal cannot be read or written, and returns
    only when what it wrote is as durable as this journal makes it.
    """

    #: Whether what is written outlives the process.
    durable: bool

    async def find(self, reference: str) -> Entry | None:
        """Return the newest entry of a reference.

        An entry whose sender died between intent and answer is returned as "unknown".
        """
        ...

    async def claim(
        self,
        intent: Intent,
        *,
        resubmit_unknown: bool = False,
        consented_to: int | None = None,
        resubmit_failed: bool = False,
    ) -> Claim:
        """Write the intent down unless its reference forbids it, in one transaction.

        `consented_to` is the entry that the two consents are about; None is any.
        """
        ...

    async def bind(self, entry_id: int, task_id: str) -> None:
        """The submit made this task."""
        ...

    async def refuse(self, entry_id: int, code: int | None, words: str) -> None:
        """The submit was refused: nothing was bought."""
        ...

    async def lose(self, entry_id: int, code: int | None, words: str) -> None:
        """Nobody knows what became of the submit."""
        ...

    async def note(
        self,
        task_id: str,
        *,
        state: str,
        result_urls: Sequence[str] = (),
        credits_consumed: float | None = None,
        duration: float | None = None,
    ) -> None:
        """The task was seen in this state; unknown task ids are ignored."""
        ...

    def note_soon(
        self,
        task_id: str,
        *,
        state: str,
        result_urls: Sequence[str] = (),
        credits_consumed: float | None = None,
        duration: float | None = None,
    ) -> None:
        """As `note`, but at some later time and without a word: a lost one costs a question."""
        ...

    async def downloaded(self, task_id: str, path: str) -> None:
        """The result was brought to this path; unknown task ids are ignored."""
        ...

    async def jobs(self, state: str | None = None) -> list[Entry]:
        """List entries, oldest first, all of them or those of one `state`.

        `state` is a word of `SubmitState`, "pending" (made and not yet ended), "unfinished"
        (pending, a success that named no link, or unknown unless its reference stands for a later
        task), "undelivered" (pending or a success, with an output that was not brought) or a
        task's state as the service spells it ("success", "fail").
        """
        ...

    async def ended(self, limit: int) -> list[Entry]:
        """List the newest entries that tell how long their task took, oldest first."""
        ...

    async def forget(self, reference: str) -> bool:
        """Drop every entry of a reference; False when there is none."""
        ...

    async def uploads(self, size: int, host: str) -> list[KeptUpload]:
        """List the uploads of so many bytes to a host, newest first."""
        ...

    def keep_upload_soon(self, upload: KeptUpload) -> None:
        """Write an upload down at some later time: a lost one costs another upload."""
        ...

    def forget_upload_soon(self, url: str) -> None:
        """Drop an upload at some later time; an unknown one is fine."""
        ...

    async def aclose(self) -> None:
        """Write what is queued and let go of the file; twice is fine."""
        ...
