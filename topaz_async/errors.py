"""The error tree, with the table from API codes to errors.

Every error of this package is a `TopazError` of plain values: it pickles, prints without
secrets, and tells what happened, whether it cost money, and what to do next.
"""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from .texts import clean, sentence

__all__ = [
    "CODES",
    "ApiError",
    "AuthenticationError",
    "Billed",
    "BudgetError",
    "CallbackError",
    "ClientClosedError",
    "CodeRule",
    "ConfigurationError",
    "ConnectError",
    "DownloadError",
    "EdgeBlockedError",
    "FeatureDisabledError",
    "FileError",
    "GenerationError",
    "InsufficientCreditsError",
    "IntegrityError",
    "InvalidInputError",
    "JournalError",
    "KeyQuotaError",
    "LinkExpiredError",
    "MaintenanceError",
    "MalformedCallbackError",
    "NotFoundError",
    "RateLimitError",
    "ReferenceConflictError",
    "RequestTimeoutError",
    "ResponseError",
    "ResultError",
    "ServerError",
    "SignatureError",
    "StaleCallbackError",
    "SubmitUnknownError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TooLargeError",
    "TopazError",
    "TransportError",
    "UnsafeUrlError",
    "UploadError",
    "ValidationError",
    "WaitTimeoutError",
    "clean",
    "rule_for",
]

Billed = Literal["no", "yes", "unknown"]

#: The longest message of an error, in characters.
_MAX_MESSAGE = 1000

_COST: dict[Billed, str] = {
    "no": "Nothing was billed.",
    "yes": "The task exists and may be billed.",
    "unknown": "The task may have been billed.",
}


def _restore(kind: type[TopazError], message: str, values: dict[str, Any]) -> TopazError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(values)
    return error


class TopazError(Exception):
    """Base of every error of this package.

    Message and hint are made clean, bounded and sentences here, whoever wrote them.

    Args:
        message: What happened, in one sentence.
        code: The API's number, or the HTTP status where the answer held no code; `None` when
            no answer is behind the error.
        task_id: The task that the error speaks of, if there is one.
        reference: The caller's own name for the work, if it was given.
        retryable: True when the same call may succeed later and repeating it is safe.
        billed: Whether the work that the error speaks of costs money: "no", "yes" or
            "unknown".
        hint: What to do next, in one sentence.
    """

    #: False for errors that speak of no purchase: they leave the sentence about money out.
    _speaks_of_money = True

    code: int | None
    task_id: str | None
    reference: str | None
    retryable: bool
    billed: Billed
    hint: str | None

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        task_id: str | None = None,
        reference: str | None = None,
        retryable: bool = False,
        billed: Billed = "no",
        hint: str | None = None,
    ) -> None:
        super().__init__(sentence(message, _MAX_MESSAGE))
        self.code = code
        self.task_id = task_id
        self.reference = reference
        self.retryable = retryable
        self.billed = billed
        self.hint = sentence(hint) if hint else None

    @property
    def message(self) -> str:
        """What happened, without the sentences about money and the next step."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        parts = [self.message]
        if self._speaks_of_money:
            parts.append(_COST[self.billed])
        if self.hint:
            parts.append(self.hint)
        return " ".join(part for part in parts if part)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code}, billed={self.billed!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Notes are a list: a copy must not share it.
        values = {k: list(v) if k == "__notes__" else v for k, v in self.__dict__.items()}
        return _restore, (type(self), self.message, values)

    def about(
        self,
        *,
        task_id: str | None = None,
        reference: str | None = None,
        billed: Billed | None = None,
    ) -> Self:
        """Return a copy that names the task, the reference or the cost as well.

        A copy, because a failure handed to several callers would gather all their tracebacks.
        """
        twin = copy.copy(self)
        twin.task_id = task_id if task_id is not None else self.task_id
        twin.reference = reference if reference is not None else self.reference
        twin.billed = billed if billed is not None else self.billed
        twin.__suppress_context__ = True
        return twin


class ConfigurationError(TopazError):
    """The client was set up wrongly: no key, an empty secret, an option out of range."""

    _speaks_of_money = False


class InvalidInputError(TopazError):
    """What was handed in cannot be upscaled; found here, before any network."""


class TransportError(TopazError):
    """The exchange with the service broke down."""


class ConnectError(TransportError):
    """No connection could be made: the service has not seen the request."""


class RequestTimeoutError(TransportError):
    """The service took the connection and did not answer in time."""


class ResponseError(TransportError):
    """An answer came that is not what the protocol says."""

    #: It was about something else than the question: connections may be out of step.
    is_stray = False


class ApiError(TopazError):
    """The service answered with a code that is not success; `code` and its words are kept.

    `retry_after` holds the seconds that the service asked to wait, or None.
    """

    retry_after: float | None = None


class AuthenticationError(ApiError):
    """Code 401, or 403 in the service's own words: the key is missing, wrong or not allowed."""


class EdgeBlockedError(ApiError):
    """HTTP 403 from the network in front of the service (a CDN): not about the key."""


class InsufficientCreditsError(ApiError):
    """Code 402, or the same in words: the balance does not cover the task."""


class NotFoundError(ApiError):
    """Code 404: no such route or thing."""


class ValidationError(ApiError):
    """Codes 400, 422 and their like, or a known phrase of code 500: the request is not valid."""


class RateLimitError(ApiError):
    """Code 429: more requests than the account may send."""


class KeyQuotaError(ApiError):
    """Code 433: this key has used up its own quota; waiting some seconds does not cure it."""


class MaintenanceError(ApiError):
    """Code 455: the service is being maintained."""


class ServerError(ApiError):
    """Code 500 and other 5xx: the service failed."""


class GenerationError(ApiError):
    """Code 501: the generation failed."""


class FeatureDisabledError(ApiError):
    """Code 505: the feature is switched off at the service."""


class SubmitUnknownError(TopazError):
    """The task may exist and be billed, and nobody can tell from here.

    `fingerprint` says what was sent, `sent_at` when (aware UTC), `code` and `words` what was
    answered, if anything was.  `task_id` is set when the answer named a task in a place, or
    with a code, that leaves a doubt.
    """

    fingerprint: str | None = None
    sent_at: datetime | None = None
    words: str | None = None


class TaskFailedError(TopazError):
    """The task ended in fail: `fail_code`, `fail_message` and the whole `record`."""

    fail_code: str | None = None
    fail_message: str | None = None
    record: Any = None


class TaskNotFoundError(TopazError):
    """The service has no record of the task id."""


class ResultError(TopazError):
    """The task succeeded without a usable URL; `record` holds what was answered."""

    record: Any = None


class WaitTimeoutError(TopazError, TimeoutError):
    """The deadline passed before the task ended; the task goes on at the service.

    `record` is the last record seen, or None.
    """

    record: Any = None


class FileError(TopazError):
    """A file could not be sent or brought."""


class UploadError(FileError):
    """A local file could not be sent; uploads are free."""


class DownloadError(FileError):
    """A result could not be brought; it is still at the service.

    `retry_after` holds the seconds that its host asked to wait, or None.
    """

    retry_after: float | None = None


class LinkExpiredError(DownloadError):
    """The link to the result is dead."""


class IntegrityError(DownloadError):
    """What came is not the whole file, or no video at all."""


class UnsafeUrlError(DownloadError):
    """The URL leads where no result may lead: not https, or a private address."""


class TooLargeError(FileError):
    """More bytes than the limit allows."""


class CallbackError(TopazError):
    """A callback was refused."""

    _speaks_of_money = False


class SignatureError(CallbackError):
    """The signature is missing or wrong."""


class StaleCallbackError(CallbackError):
    """The callback is too old, or from the future."""


class MalformedCallbackError(CallbackError):
    """The callback is not what the protocol says."""


class JournalError(TopazError):
    """The journal could not be read or written."""


class ReferenceConflictError(JournalError):
    """The reference stands for another piece of work already."""


class BudgetError(TopazError):
    """The budget does not cover the submit; nothing was sent."""


class ClientClosedError(TopazError):
    """The client was closed; a task already submitted goes on at the service."""


class CodeRule(NamedTuple):
    """What one effective code means.

    Attributes:
        error: The class raised for it.
        billed: For createTask: "no" when the code says that nothing was bought, else "unknown".
        repeatable: Whether createTask may be sent again after it.
        transient: Whether a question (any call that buys nothing) may be asked again.
        hint: What to do next.
    """

    error: type[ApiError]
    billed: Billed
    repeatable: bool = False
    transient: bool = False
    hint: str | None = None


_CHECK_INPUT = "Correct the input; the service's words say what it misses."
_TRY_LATER = "Wait, then try again."

#: Effective code to meaning: the one table for refusals, costs and repeats.
#: Source: docs.kie.ai (status codes of the market pages), with what recorded answers and
#: reports show, read 2026-11-22.  A code that is not listed means `ServerError` from 500 on,
#: else `ApiError`; for createTask it means that nobody knows.
CODES: dict[int, CodeRule] = {
    400: CodeRule(ValidationError, "no", hint=_CHECK_INPUT),
    401: CodeRule(AuthenticationError, "no", hint="Check the API key (KIE_API_KEY)."),
    402: CodeRule(InsufficientCreditsError, "no", hint="Top up the account, then submit again."),
    403: CodeRule(AuthenticationError, "no", hint="Check what the key may do, and from where."),
    404: CodeRule(NotFoundError, "no", hint="Check base_url and upload_url."),
    405: CodeRule(ValidationError, "no", hint="Check base_url and upload_url."),
    408: CodeRule(ServerError, "unknown", transient=True, hint=_TRY_LATER),
    413: CodeRule(ValidationError, "no", hint="Send less."),
    415: CodeRule(ValidationError, "no", hint=_CHECK_INPUT),
    422: CodeRule(ValidationError, "no", hint=_CHECK_INPUT),
    429: CodeRule(RateLimitError, "no", repeatable=True, transient=True, hint=_TRY_LATER),
    433: CodeRule(KeyQuotaError, "no", hint="Raise the key's own quota in the account settings."),
    455: CodeRule(MaintenanceError, "no", repeatable=True, transient=True, hint=_TRY_LATER),
    500: CodeRule(ServerError, "unknown", transient=True, hint=_TRY_LATER),
    501: CodeRule(GenerationError, "unknown", transient=True, hint=_TRY_LATER),
    505: CodeRule(FeatureDisabledError, "no", hint="Ask the service's support."),
}

_UNLISTED = CodeRule(ApiError, "unknown", hint="The code is in no table; ask the service.")


def rule_for(code: int) -> CodeRule:
    """Return what an effective code means, also for codes that nobody documented."""
    return CODES.get(code) or (CODES[500] if 500 <= code <= 599 else _UNLISTED)
