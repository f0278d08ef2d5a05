"""Asyncio-first SDK for Topaz video upscaling on the kie.ai jobs API.

    async with TopazClient() as topaz:
        result = await topaz.upscale("clip.mp4", factor=4, output="clip-4x.mp4")

Everything public is a name of this package; nothing else is public.  Names load on first use,
so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import (
        Batch as Batch,
    )
    from .callbacks import (
        CallbackHub as CallbackHub,
    )
    from .callbacks_events import (
        CallbackEvent as CallbackEvent,
    )
    from .chapters import OnSubmit as OnSubmit
    from .client import (
        TopazClient as TopazClient,
    )
    from .errors import (
        ApiError as ApiError,
        AuthenticationError as AuthenticationError,
        Billed as Billed,
        BudgetError as BudgetError,
        CallbackError as CallbackError,
        ClientClosedError as ClientClosedError,
        ConfigurationError as ConfigurationError,
        ConnectError as ConnectError,
        DownloadError as DownloadError,
        EdgeBlockedError as EdgeBlockedError,
        FeatureDisabledError as FeatureDisabledError,
        FileError as FileError,
        GenerationError as GenerationError,
        InsufficientCreditsError as InsufficientCreditsError,
        IntegrityError as IntegrityError,
        InvalidInputError as InvalidInputError,
        JournalError as JournalError,
        KeyQuotaError as KeyQuotaError,
        LinkExpiredError as LinkExpiredError,
        MaintenanceError as MaintenanceError,
        MalformedCallbackError as MalformedCallbackError,
        NotFoundError as NotFoundError,
        RateLimitError as RateLimitError,
        ReferenceConflictError as ReferenceConflictError,
        RequestTimeoutError as RequestTimeoutError,
        ResponseError as ResponseError,
        ResultError as ResultError,
        ServerError as ServerError,
        SignatureError as SignatureError,
        StaleCallbackError as StaleCallbackError,
        SubmitUnknownError as SubmitUnknownError,
        TaskFailedError as TaskFailedError,
        TaskNotFoundError as TaskNotFoundError,
        TooLargeError as TooLargeError,
        TopazError as TopazError,
        TransportError as TransportError,
        UnsafeUrlError as UnsafeUrlError,
        UploadError as UploadError,
        ValidationError as ValidationError,
        WaitTimeoutError as WaitTimeoutError,
    )
    from .job import (
        Job as Job,
    )
    from .journal import (
        SqliteJournal as SqliteJournal,
    )
    from .models import (
        ImageUpscaleInput as ImageUpscaleInput,
        Outcome as Outcome,
        TaskInput as TaskInput,
        TaskRecord as TaskRecord,
        TaskState as TaskState,
        UploadedFile as UploadedFile,
        UpscaleFactor as UpscaleFactor,
        UpscaleInput as UpscaleInput,
        UpscaleResult as UpscaleResult,
    )
    from .orders import Video as Video
    from .ports import (
        CallbackReply as CallbackReply,
        Entry as Entry,
        Intent as Intent,
        Journal as Journal,
    )
    from .report import BatchReport as BatchReport
    from .settings import (
        Budget as Budget,
        PollPolicy as PollPolicy,
        Quotas as Quotas,
        RetryPolicy as RetryPolicy,
        Timeouts as Timeouts,
    )
    from .transfers import (
        OnProgress as OnProgress,
        Progress as Progress,
    )
    from .watching import OnUpdate as OnUpdate

__all__ = [
    "ApiError",
    "AuthenticationError",
    "Batch",
    "BatchReport",
    "Billed",
    "Budget",
    "BudgetError",
    "CallbackError",
    "CallbackEvent",
    "CallbackHub",
    "CallbackReply",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "DownloadError",
    "EdgeBlockedError",
    "Entry",
    "FeatureDisabledError",
    "FileError",
    "GenerationError",
    "ImageUpscaleInput",
    "InsufficientCreditsError",
    "IntegrityError",
    "Intent",
    "InvalidInputError",
    "Job",
    "Journal",
    "JournalError",
    "KeyQuotaError",
    "LinkExpiredError",
    "MaintenanceError",
    "MalformedCallbackError",
    "NotFoundError",
    "OnProgress",
    "OnSubmit",
    "OnUpdate",
    "Outcome",
    "PollPolicy",
    "Progress",
    "Quotas",
    "RateLimitError",
    "ReferenceConflictError",
    "RequestTimeoutError",
    "ResponseError",
    "ResultError",
    "RetryPolicy",
    "ServerError",
    "SignatureError",
    "SqliteJournal",
    "StaleCallbackError",
    "SubmitUnknownError",
    "TaskFailedError",
    "TaskInput",
    "TaskNotFoundError",
    "TaskRecord",
    "TaskState",
    "Timeouts",
    "TooLargeError",
    "TopazClient",
    "TopazError",
    "TransportError",
    "UnsafeUrlError",
    "UploadError",
    "UploadedFile",
    "UpscaleFactor",
    "UpscaleInput",
    "UpscaleResult",
    "ValidationError",
    "Video",
    "WaitTimeoutError",
]

#: Where each public name lives.
_HOMES = {
    "Batch": "batch",
    "BatchReport": "report",
    "Outcome": "models",
    "SqliteJournal": "journal",
    "CallbackEvent": "callbacks_events",
    "CallbackHub": "callbacks",
    "CallbackReply": "ports",
    "Entry": "ports",
    "Intent": "ports",
    "Journal": "ports",
    "Budget": "settings",
    "TopazClient": "client",
    "Job": "job",
    "ImageUpscaleInput": "models",
    "TaskInput": "models",
    "TaskRecord": "models",
    "TaskState": "models",
    "UploadedFile": "models",
    "UpscaleFactor": "models",
    "UpscaleInput": "models",
    "UpscaleResult": "models",
    "OnProgress": "transfers",
    "OnSubmit": "chapters",
    "OnUpdate": "watching",
    "PollPolicy": "settings",
    "Progress": "transfers",
    "Quotas": "settings",
    "RetryPolicy": "settings",
    "Timeouts": "settings",
    "Video": "orders",
}


if not TYPE_CHECKING:  # a misspelt name is an error to a type checker

    def __getattr__(name: str) -> Any:
        """Load a public name on its first use (PEP 562); errors need no entry of their own."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
