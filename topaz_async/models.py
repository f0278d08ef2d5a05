"""The frozen words of the domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from .errors import InvalidInputError, TopazError
from .texts import quoted
from .urls import check_url, shown

__all__ = [
    "ImageUpscaleInput",
    "Outcome",
    "OutcomeStatus",
    "TaskInput",
    "TaskRecord",
    "TaskState",
    "UploadedFile",
    "UpscaleFactor",
    "UpscaleInput",
    "UpscaleResult",
]


class UpscaleFactor(StrEnum):
    """By how much width and height grow; `X1` enhances at the original size."""

    X1 = "1"
    X2 = "2"
    X4 = "4"

    @classmethod
    def parse(cls, value: UpscaleFactor | int | str) -> UpscaleFactor:
        """Return the factor for 1, 2, 4, their digits in text, or a factor itself.

        Raises:
            InvalidInputError: Anything else, booleans and fractions included.
        """
        if isinstance(value, (int, str)):  # of booleans no text is a factor
            try:
                return cls(str(value))
            except ValueError:
                pass
        raise InvalidInputError(
            f"The upscale factor is {quoted(value)}; the service knows 1, 2 and 4."
        )


def _factor(value: UpscaleFactor | int | str) -> UpscaleFactor:
    return UpscaleFactor.parse(value)


def _check(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_url(value, attribute.name)


def _shown(url: str) -> str:
    return repr(shown(url))


@attrs.frozen
class TaskInput:
    """What one task of a model is made of.

    A further model is one more subclass: `model` names it, the fields are its input.  The
    field `factor` is sent as `upscale_factor`, every other field under its own name.
    """

    #: The model's id, sent as it stands.
    model: ClassVar[str]


@attrs.frozen
class UpscaleInput(TaskInput):
    """Input of `topaz/video-upscale`.

    Source:
        docs.kie.ai/market/topaz/video-upscale, read 2026-11-22.
    """

    model: ClassVar[str] = "topaz/video-upscale"

    #: Where the service fetches the clip: https, mp4, mov or mkv.
    video_url: str = attrs.field(validator=_check, repr=_shown)
    #: Always sent: the server fills in no default of its own.
    factor: UpscaleFactor = attrs.field(default=UpscaleFactor.X2, converter=_factor)


@attrs.frozen
class ImageUpscaleInput(TaskInput):
    """Input of `topaz/image-upscale`: jpeg, png or webp, at most 10 MB.

    Source:
        docs.kie.ai/market/topaz/image-upscale, read 2026-11-22.
    """

    model: ClassVar[str] = "topaz/image-upscale"

    #: Where the service fetches the image: https.
    image_url: str = attrs.field(validator=_check, repr=_shown)
    factor: UpscaleFactor = attrs.field(default=UpscaleFactor.X2, converter=_factor)


#: The words a state may have, and whether the task has ended.  The documented ones are
#: waiting, queuing, generating, success and fail; the others are tolerated because other
#: clients of the service expect them.
_STATES: dict[str, str] = {
    "waiting": "pending",
    "queuing": "pending",
    "queued": "pending",
    "generating": "pending",
    "processing": "pending",
    "success": "success",
    "completed": "success",
    "fail": "fail",
    "failed": "fail",
    "error": "fail",
}

#: The words of a success.
SUCCESSES = tuple(word for word, meaning in _STATES.items() if meaning == "success")


class TaskState(str):
    """A task's state, in the service's own word: open, for a new one may come any day.

    Compare it with text: `record.state == "waiting"`.
    """

    __slots__ = ()

    @property
    def _meaning(self) -> str:
        return _STATES.get(self.strip().lower(), "unknown")

    @property
    def is_known(self) -> bool:
        """Whether this word has been seen before; a task in an unknown state is pending."""
        return self._meaning != "unknown"

    @property
    def is_queued(self) -> bool:
        """The work has not begun, as far as the word tells.

        Recorded tasks mostly jump from "waiting" to "success": it is a hint, no more.
        """
        return self.strip().lower() in ("waiting", "queuing", "queued")

    @property
    def is_success(self) -> bool:
        """The task has ended well."""
        return self._meaning == "success"

    @property
    def is_fail(self) -> bool:
        """The task has ended in failure."""
        return self._meaning == "fail"

    @property
    def is_terminal(self) -> bool:
        """The task has ended, one way or the other."""
        return self.is_success or self.is_fail


@attrs.frozen
class TaskRecord:
    """One answer about a task.

    Every field but `task_id` and `state` may be missing in an answer; it is then None or empty.
    """

    task_id: str
    state: TaskState = attrs.field(converter=TaskState)
    model: str | None = None
    #: Links to what was made, as the service spells them; they usually live for 24 hours.
    result_urls: tuple[str, ...] = ()
    #: The service's code for a failed task ("422", "500"), in text.
    fail_code: str | None = None
    fail_message: str | None = None
    #: Moments of the service's clock, aware UTC.
    created_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime | None = None
    #: As the service gives it: whole seconds in every recorded answer, milliseconds in one page
    #: of the documentation.  `duration` is the safe way.
    cost_time: float | None = None
    #: 0 for failed tasks, says the documentation.
    credits_consumed: float | None = None
    #: 0 to 100; only some models send it.
    progress: float | None = None
    #: The parsed `resultJson`, whole.
    result: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    #: The answer's `data` as it came, unknown fields included.
    raw: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    #: Tells this answer's bytes from another's; empty when it came from elsewhere.
    digest: bytes = attrs.field(default=b"", eq=False, repr=False)

    @property
    def duration(self) -> float | None:
        """Seconds from creation to completion by the service's clock, or None."""
        if self.created_at is None or self.completed_at is None:
            return None
        seconds = (self.completed_at - self.created_at).total_seconds()
        return seconds if seconds >= 0 else None


@attrs.frozen
class UpscaleResult:
    """What a task made."""

    task_id: str
    #: At least one link; Topaz models give exactly one.
    urls: tuple[str, ...]
    #: The last record of the task.
    record: TaskRecord = attrs.field(eq=False, repr=False)
    #: Where the file is on this machine, once it has been downloaded.
    path: Path | None = None
    reference: str | None = None
    #: When the link may die, aware UTC: the task's completion and the documented life of links
    #: (`Quotas.result_life`).  A hint, no promise; None when the service told no completion.
    expires_hint: datetime | None = attrs.field(default=None, eq=False, kw_only=True)

    @property
    def url(self) -> str:
        """The first link."""
        return self.urls[0]

    @property
    def credits_consumed(self) -> float | None:
        """What the service says that the task cost, in credits (about 0.005 USD each)."""
        return self.record.credits_consumed


@attrs.frozen
class UploadedFile:
    """A file at the service's upload host."""

    #: What to pass as `video_url`.  It holds the account's number: repr leaves it out.
    url: str = attrs.field(repr=False)
    name: str | None = None
    #: Bytes, as the service counted them.
    size: int | None = None
    mime_type: str | None = None
    #: By the host's clock, aware UTC.
    uploaded_at: datetime | None = None
    #: The answer's `data` as it came; empty for a file that was there already.
    raw: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    #: When the host may delete it, aware UTC: `uploaded_at` and the documented life of uploads
    #: (`Quotas.upload_life`).  A hint, no promise; None when the host told no time.
    expires_hint: datetime | None = attrs.field(default=None, eq=False, kw_only=True)


#: What became of one item of a batch.
OutcomeStatus = Literal["ok", "failed", "refused", "unknown", "pending", "not submitted"]


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one item of a batch.

    `status` is one of:

    - "ok": the result is there, and on disk if an output folder was given;
    - "failed": the task ended in fail, or its result could not be brought;
    - "refused": nothing was bought, as `error` says;
    - "unknown": nobody knows whether the submit made a task;
    - "pending": the deadline passed, or the batch was left; the task goes on at the service;
    - "not submitted": the credits ran out, or the batch was left, before its turn.
    """

    #: Its place in the iterable, from 0.
    index: int
    #: What the iterable gave, in text.
    video: str
    status: OutcomeStatus
    reference: str | None = None
    task_id: str | None = None
    result: UpscaleResult | None = None
    #: What the service says that it cost, in credits.
    credits: float | None = None
    #: Seconds from the item's start to its outcome.
    seconds: float | None = None
    error: TopazError | None = attrs.field(default=None, eq=False)
    #: The item that had the same input, and whose task serves this one too.
    same_as: int | None = None

    @property
    def path(self) -> Path | None:
        """Where the file is on this machine."""
        return None if self.result is None else self.result.path
